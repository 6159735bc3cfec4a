import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { LayoutStore } from '../../../src/content/layout.ts'
import { delay } from '../../../src/internal/abort.ts'
import { openStore, type Store } from '../../../src/store/index.ts'
import { readWritableRecord } from '../../../src/store/writable-record.ts'
import { type TestEntry, tar } from '../../layer/support/tar.ts'
import { image, put, type TestImage } from './image.ts'

const worker = fileURLToPath(new URL('crash-worker.ts', import.meta.url))
const project = fileURLToPath(new URL('../../..', import.meta.url))

export const imageCount = 4
export const volumeCount = 3

/** The same numbers from 0 to 1 for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let t = state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** What a volume is filled with. */
export function filesOfVolume(name: string): readonly (readonly [file: string, content: string])[] {
  return Array.from({ length: 20 }, (_, i) => [`file-${i}`, `${name} ${i}\n`.repeat(50)] as const)
}

/** Images that share their lower layers, so that removing one must leave those. */
export const images: readonly TestImage[] = Array.from({ length: imageCount }, (_, n) => {
  const layer = (mark: string, files: number): Buffer =>
    tar(
      ...Array.from(
        { length: files },
        (_, i): TestEntry => ({ name: `${mark}/f${i}`, content: `${mark} ${i}`.repeat(20) }),
      ),
    )
  return image([layer('base', 40), layer(`half-${n % 2}`, 30), layer(`own-${n}`, 20)])
})

/** Makes the layout that workers pull from. */
export async function makeSource(path: string): Promise<void> {
  const source = await LayoutStore.create(path, { sync: false })
  for (const [n, each] of images.entries()) await put(source, each, `image-${n}`)
}

/** A process at work. */
export interface CrashWorker {
  readonly process: ChildProcessByStdio<null, Readable, Readable>
  /** The lines it has written so far. */
  readonly lines: readonly string[]
  /** Resolves when it has written so many lines, or has ended. */
  reaches(lines: number): Promise<void>
  /** Resolves with how it ended. */
  readonly ended: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>
}

/** Starts a worker; `prefix` is a command to run it by. */
export function startCrashWorker(
  root: string,
  source: string,
  options: {
    readonly seed: number
    readonly mode?: string
    readonly prefix?: readonly string[]
    readonly env?: NodeJS.ProcessEnv
    /** Default one of a store alone. */
    readonly program?: string
  },
): CrashWorker {
  const { seed, mode = 'all', prefix = [], env = {}, program = worker } = options
  const [command = '', ...args] = [
    ...prefix,
    process.execPath,
    '--import',
    'tsx',
    program,
    root,
    source,
    String(seed),
    mode,
  ]
  const child = spawn(command, args, {
    cwd: project,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  })
  const lines: string[] = []
  const waiting: { readonly count: number; readonly resolve: () => void }[] = []
  child.stderr.resume()
  createInterface({ input: child.stdout }).on('line', (line) => {
    lines.push(line)
    for (const { count, resolve } of waiting) if (lines.length >= count) resolve()
  })
  const ended = new Promise<Awaited<CrashWorker['ended']>>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      for (const { resolve: done } of waiting) done()
      resolve({ code, signal })
    })
  })
  return {
    process: child,
    lines,
    ended,
    reaches: (count) =>
      lines.length >= count || child.exitCode !== null || child.signalCode !== null
        ? Promise.resolve()
        : new Promise((resolve) => waiting.push({ count, resolve })),
  }
}

/**
 * Opens a store whose worker was killed, and again until nothing unfinished is in it: the process that the worker was just
 * starting has its locks until it runs a program of its own, some milliseconds longer than the worker itself.
 */
export async function openAfterCrash(root: string): Promise<Store> {
  const end = Date.now() + 10_000
  for (;;) {
    const store = await openStore({ root, durability: 'none' })
    if (!hasUnfinished(root) || Date.now() > end) return store
    await delay(5)
  }
}

function hasUnfinished(root: string): boolean {
  const isFinished = (id: string): boolean => readWritableRecord(join(root, 'containers', id))?.ephemeral === false
  const pending = ['tmp', 'leases'].flatMap((part) => readdirSync(join(root, part)))
  return pending.length > 0 || !readdirSync(join(root, 'containers')).every(isFinished)
}

/** What must be true of a store, from what its workers have said. Undefined: it was being changed. */
export class Expectations {
  readonly #images = new Map<string, boolean | undefined>()
  readonly #volumes = new Map<string, boolean | undefined>()

  /** Takes note of the lines of one worker. `mayFail`: whether it may have lost a process that worked for it. */
  learn(lines: readonly string[], mayFail = false): void {
    for (const line of lines) {
      const [step, what = '', name = ''] = line.split(' ')
      if (step === 'failed' && mayFail && line.includes('RemoteExitError')) continue
      expect(step, line).not.toBe('failed')
      const known = what.endsWith('image') ? this.#images : what.endsWith('volume') ? this.#volumes : undefined
      known?.set(name, step === 'begin' ? undefined : !what.startsWith('no-'))
    }
  }

  /** Fails when the store is not in order, or something that was complete is gone. */
  async verify(root: string, context: string): Promise<Store> {
    const store = await openAfterCrash(root)
    const report = await store.check()
    expect(report.findings, context).toEqual([])
    expect(readdirSync(join(root, 'tmp')), context).toEqual([])
    expect(readdirSync(join(root, 'leases')), context).toEqual([])
    expect(readdirSync(join(root, 'containers')), context).toEqual([])
    const names = new Set((await store.references()).map(({ reference }) => reference))
    for (const [name, isThere] of this.#images) {
      if (isThere === undefined) continue
      expect(names.has(name), `${context}: ${name}`).toBe(isThere)
      if (isThere) await expectUnpacked(store, images[Number(name.slice(6))] as TestImage, `${context}: ${name}`)
    }
    await this.#verifyVolumes(store, context)
    return store
  }

  async #verifyVolumes(store: Store, context: string): Promise<void> {
    const volumes = await store.volumes.list()
    for (const [name, isThere] of this.#volumes) {
      const volume = volumes.find((each) => each.name === name)
      if (isThere !== undefined) expect(volume !== undefined, `${context}: ${name}`).toBe(isThere)
      if (volume === undefined) continue
      expect(volume.labels).toEqual({ kept: 'yes' })
      const found = readdirSync(volume.path).sort()
      // Filling it may have been under way: all of it or nothing.
      if (isThere === undefined && found.length === 0) continue
      expect(found, `${context}: ${name}`).toHaveLength(filesOfVolume(name).length)
      for (const [file, content] of filesOfVolume(name)) {
        expect(readFileSync(join(volume.path, file), 'utf8')).toBe(content)
      }
    }
  }
}

async function expectUnpacked(store: Store, { manifest, config }: TestImage, context: string): Promise<void> {
  const kinds: string[] = []
  const { layers } = await store.unpack(manifest, config, { onProgress: ({ kind }) => kinds.push(kind) })
  expect(kinds, context).toEqual(manifest.layers.map(() => 'skipped'))
  expect(layers.every((path) => existsSync(path))).toBe(true)
}

/** As many times: a worker is killed at a random moment, and the store must be in order. @returns steps it died in. */
export async function crashRounds(directory: string, rounds: number, seed: number): Promise<ReadonlySet<string>> {
  const [root, source] = [join(directory, 'store'), join(directory, 'source')]
  await makeSource(source)
  const random = randomNumbers(seed)
  const expectations = new Expectations()
  const steps = new Set<string>()
  for (let round = 0; round < rounds; round += 1) {
    const child = startCrashWorker(root, source, { seed: Math.floor(random() * 2 ** 31) })
    // Some in the middle of opening the store, most in one of its first dozen steps.
    await child.reaches(random() < 0.1 ? 0 : 1 + Math.floor(random() * 24))
    await Promise.race([child.ended, delay(random() * 25)])
    child.process.kill('SIGKILL')
    await child.ended
    const context = `seed ${seed}, round ${round}, after: ${child.lines.slice(-2).join(', ')}`
    expectations.learn(child.lines)
    steps.add((child.lines.at(-1) ?? 'start').split(' ').slice(0, 2).join(' '))
    await expectations.verify(root, context)
  }
  return steps
}

/** System calls that change what is on the disk, or who may. */
export const changingCalls: readonly string[] =
  'rename renameat2 link linkat symlinkat unlink unlinkat rmdir mkdir mkdirat ftruncate flock fchmod fchown fchownat utimensat fdatasync fsync'.split(
    ' ',
  )

/**
 * A worker that does each kind of work once is killed at the `count`-th `name` of one of its threads or helpers; the
 * store must be in order. Under strace, which puts the signal there. @returns whether it was killed.
 */
export async function killAtCall(directory: string, name: string, count: number): Promise<boolean> {
  const [root, source] = [join(directory, `store-${name}-${count}`), join(directory, 'source')]
  const expectations = new Expectations()
  const before = await openStore({ root, durability: 'none' })
  await put(before, images[1] as TestImage, 'image-1')
  await before.volumes.create('volume-1', { labels: { kept: 'yes' } })
  const inject = `inject=${name}:signal=KILL:when=${count}`
  const prefix = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${name}`, '-e', inject]
  // With one thread for files there is one order.
  const child = startCrashWorker(root, source, { seed: 1, mode: 'script', prefix, env: { UV_THREADPOOL_SIZE: '1' } })
  const { code } = await child.ended
  expectations.learn(child.lines, true)
  await expectations.verify(root, `killed at ${name} ${count}, after: ${child.lines.slice(-2).join(', ')}`)
  rmSync(root, { recursive: true })
  return code !== 0
}
