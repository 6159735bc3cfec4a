import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { fileLock } from '../../src/content/file-lock.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { ownedName, ownOwner } from '../../src/content/owner.ts'
import { temporaryDirectory } from './support.ts'

const children: ChildProcess[] = []
const cleanups: (() => Promise<void>)[] = []

afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup()
})

afterAll(() => {
  for (const child of children) child.kill('SIGKILL')
})

async function directory(): Promise<string> {
  const { path, remove } = await temporaryDirectory()
  cleanups.push(remove)
  return path
}

/** Runs a script in a process of its own that can import the sources. */
function start(script: string, ...args: string[]): ChildProcess {
  const root = fileURLToPath(new URL('../..', import.meta.url))
  const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', script, '--', ...args], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  children.push(child)
  return child
}

const tagger = `
  import { LayoutStore } from './src/content/layout.ts'
  import { descriptorOf } from './src/image/descriptor.ts'
  const [path, name, count] = process.argv.slice(-3)
  const store = await LayoutStore.create(path, { sync: false })
  for (let n = 0; n < Number(count); n++) {
    const bytes = Buffer.from(name + n)
    const descriptor = descriptorOf('a/b', bytes)
    await store.push(descriptor, bytes)
    await store.tag(descriptor, name + n)
    console.log(n)
  }
`

describe('a layout that several processes write', () => {
  it('loses no name', async () => {
    const path = join(await directory(), 'layout')
    const names = ['a', 'b', 'c']
    const codes = await Promise.all(names.map(async (name) => (await once(start(tagger, path, name, '30'), 'exit'))[0]))
    expect(codes).toEqual([0, 0, 0])
    const store = await LayoutStore.open(path)
    expect(await store.list()).toHaveLength(90)
    expect(await readdir(join(path, 'ingest'))).toEqual([])
  })

  it('works on after one of them was killed', async () => {
    const path = join(await directory(), 'layout')
    for (let round = 0; round < 4; round++) {
      const child = start(tagger, path, `r${round}-`, '100000')
      // Killed in the middle of whatever it does after a few names.
      for await (const line of child.stdout ?? []) if (String(line).includes(String(5 + round * 3))) break
      child.kill('SIGKILL')
      await once(child, 'exit')
      const store = await LayoutStore.create(path)
      const [first] = await store.list()
      if (first === undefined) throw new Error('nothing was written')
      await store.tag(first.descriptor, `after-${round}`)
      expect(await readdir(join(path, 'ingest'))).toEqual([])
      for (const { descriptor } of await store.list()) expect(await store.exists(descriptor)).toBe(true)
    }
  })
})

describe('fileLock', () => {
  it('lets one at a time work, through one lock or two', async () => {
    const path = join(await directory(), 'locks', 'x.lock')
    let inside = 0
    let most = 0
    const work = async (): Promise<void> => {
      inside++
      most = Math.max(most, inside)
      for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve))
      inside--
    }
    const locks = [fileLock(path), fileLock(path)]
    await Promise.all(Array.from({ length: 20 }, (_, n) => locks[n % 2]?.(work)))
    expect(most).toBe(1)
    expect(await readdir(join(path, '..'))).toEqual([])
  })

  it('gives what the work gives, and lets go when it fails', async () => {
    const lock = fileLock(join(await directory(), 'x.lock'))
    expect(await lock(async () => 7)).toBe(7)
    await expect(lock(() => Promise.reject(new Error('failed')))).rejects.toThrow('failed')
    expect(await lock(async () => 8)).toBe(8)
  })

  it('breaks a lock whose process has died', async () => {
    const path = join(await directory(), 'x.lock')
    const child = start('process.exit()')
    await once(child, 'exit')
    await writeFile(path, ownedName({ ...(await ownOwner()), pid: child.pid ?? 0 }))
    expect(await fileLock(path)(async () => 'mine')).toBe('mine')
  })

  it('waits for a lock whose process lives, until aborted', async () => {
    const path = join(await directory(), 'x.lock')
    const name = ownedName({ ...(await ownOwner()), pid: process.ppid })
    await writeFile(path, name)
    const controller = new AbortController()
    const pending = fileLock(path)(async () => 'mine', controller.signal)
    const reason = new Error('enough')
    setTimeout(() => controller.abort(reason), 50)
    await expect(pending).rejects.toBe(reason)
    expect(await readFile(path, 'utf8')).toBe(name)
    expect(await readdir(join(path, '..'))).toEqual(['x.lock'])
  })
})
