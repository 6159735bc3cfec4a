import { type ChildProcess, spawn } from 'node:child_process'
import { createHash } from 'node:crypto'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { anonymous, openRepository } from '../../../src/distribution/index.ts'
import { delay } from '../../../src/internal/abort.ts'
import { createRegistryServer } from '../../../src/registry/index.ts'
import { type TestEntry, tar } from '../../layer/support/tar.ts'
import { put } from '../../store/support/image.ts'
import { busyboxImage } from './busybox.ts'
import { nothing, settledLeftovers } from './leftovers.ts'
import { Sandbox } from './sandbox.ts'

const project = fileURLToPath(new URL('../../..', import.meta.url))
const worker = fileURLToPath(new URL('kill-worker.ts', import.meta.url))

/** Files of an image, so that unpacking it takes a while. */
const files = 300

/** The steps of a round. */
const steps = ['fetch', 'unpack', 'run', 'running'] as const

/** Milliseconds after the beginning of a step until which a process is killed. */
const longest = 60

/** How many rounds were killed at which step. */
export type Moments = Readonly<Record<string, number>>

/**
 * As many times: a process pulls, unpacks and runs an image and is killed at a random moment of that; the
 * next one finds everything in order, and nothing left. `seed` decides the moments.
 */
export async function killRounds(rounds: number, seed: number): Promise<Moments> {
  const sandbox = new Sandbox()
  await using registry = await createRegistryServer()
  const repository = `${registry.host}/app`
  const random = randomNumbers(seed)
  const moments: Record<string, number> = {}
  try {
    await offer(repository, 0)
    for (let round = 1; round <= rounds; round++) {
      await offer(repository, round)
      const child = new Worker(sandbox, repository, round)
      try {
        const saw = await child.saw
        expect(saw, `seed ${seed}, round ${round}`).toEqual({
          code: 0,
          lines: [String(round - 1), String(files)],
          leftovers: nothing,
        })
        // A step at random, because some are short, and a moment in it or in the next one.
        await child.reaches(steps[Math.floor(random() * steps.length)] ?? 'fetch')
        await Promise.race([child.ended, delay(random() * longest)])
        moments[child.at] = (moments[child.at] ?? 0) + 1
      } finally {
        await child.kill()
      }
    }
    await sandbox.reopen()
    expect(await settledLeftovers(sandbox)).toEqual(nothing)
    expectWholeBlobs(sandbox.root)
  } finally {
    sandbox.remove()
  }
  return moments
}

/** Pushes the image of a round: its number, many files, and busybox. */
async function offer(repository: string, round: number): Promise<void> {
  const content = (file: number): string => `round ${round}, file ${file}`
  const entries = Array.from({ length: files }, (_, i): TestEntry => ({ name: `files/${i}`, content: content(i) }))
  const layers = [tar({ name: 'number', content: `${round}\n` }, ...entries)]
  await put(openRepository(repository, { credentials: anonymous }), busyboxImage({ layers }), String(round))
}

class Worker {
  /** What it has found; rejects when it ends before it can say so. */
  readonly saw: Promise<unknown>
  readonly ended: Promise<void>
  /** The step it is at. */
  at = 'start'
  private errors = ''
  private readonly reached = new Set<string>()
  private readonly process: ChildProcess
  private readonly listeners = new Set<() => void>()

  constructor(sandbox: Sandbox, repository: string, round: number) {
    const args = ['--import', 'tsx', worker, sandbox.directory, sandbox.mark, repository, String(round)]
    const child = spawn(process.execPath, args, { cwd: project, stdio: ['ignore', 'pipe', 'pipe'] })
    this.process = child
    child.stderr.on('data', (chunk: Buffer) => {
      this.errors += chunk.toString()
    })
    this.ended = new Promise((resolve) => child.once('close', () => resolve()))
    const reader = createInterface({ input: child.stdout })
    this.saw = new Promise((resolve, reject) => {
      reader.on('line', (line) => {
        const [word, rest = ''] = [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]
        if (word === 'saw') resolve(JSON.parse(rest))
        if (word === 'at') {
          this.at = rest
          this.reached.add(rest)
        }
        for (const listener of this.listeners) listener()
      })
      void this.ended.then(() => reject(new Error(`round ${round} ended by itself: ${this.errors}`)))
    })
    this.saw.catch(() => {})
  }

  async reaches(step: string): Promise<void> {
    const there = new Promise<void>((resolve) => {
      const look = (): void => {
        if (this.reached.has(step)) resolve()
      }
      this.listeners.add(look)
      look()
    })
    await Promise.race([
      there,
      this.ended.then(() => Promise.reject(new Error(`it ended before it came to ${step}: ${this.errors}`))),
    ])
  }

  async kill(): Promise<void> {
    this.process.kill('SIGKILL')
    await this.ended
  }
}

/** Every blob of a store has the content that its name says. */
function expectWholeBlobs(root: string): void {
  const folder = join(root, 'content/blobs/sha256')
  const names = readdirSync(folder)
  expect(names.length).toBeGreaterThan(3)
  for (const name of names) {
    expect(
      createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex'),
    ).toBe(name)
  }
}

/** Numbers from 0 to 1, the same for the same seed (mulberry32). */
export function randomNumbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The seed that `OCI_TS_SEED` asks for, else a new one. */
export function seedOfRun(): number {
  return Number(process.env.OCI_TS_SEED ?? Math.floor(Math.random() * 2 ** 32))
}
