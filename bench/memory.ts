import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { createContainer, type RuntimeContainer } from 'oci-ts/runtime'
import type { Bundle } from './bundle.ts'
import { median, silence } from './measure.ts'
import { find, inMountNamespace } from './peers.ts'
import { atMost, type Row } from './result.ts'

const count = 20

/**
 * Memory that a running container takes beside its own process: the private memory of the process that watches it,
 * and what this process keeps for it. With crun that is the `crun run` in the foreground, which is what watches there.
 */
export async function memoryRows(bundle: Bundle, stateRoot: string, state: string): Promise<readonly Row[]> {
  const what = `memory beside a running container (${count} of them)`
  const { watcher, here } = await oursInKilobytes(bundle, stateRoot)
  const ours = watcher + here
  const crun = find('crun')
  const peer = crun === undefined ? undefined : { name: 'crun', value: await crunInKilobytes(crun, bundle, state) }
  return [
    { what, unit: 'KB', ours, target: atMost(400) },
    { what: '  of it in the process that watches', unit: 'KB', ours: watcher },
    { what: '  of it in this process', unit: 'KB', ours: here },
    { what, unit: 'KB', ours, peer },
  ]
}

async function oursInKilobytes(
  { path, spec }: Bundle,
  stateRoot: string,
): Promise<{ readonly watcher: number; readonly here: number }> {
  const containers: RuntimeContainer[] = []
  const add = async (): Promise<void> => {
    const id = `bench-memory-${process.pid}-${containers.length}`
    const container = await createContainer({ id, spec, bundle: path, stateRoot })
    containers.push(container)
    await container.start()
  }
  try {
    await add() // what the first one brings with it is there once
    const before = heldHere()
    for (let i = 0; i < count; i++) await add()
    const here = (heldHere() - before) / count / 1024
    return { watcher: median(containers.map(({ pid }) => privateKilobytes(parentOf(pid)))), here }
  } finally {
    await Promise.all(containers.map((container) => container.delete({ force: true })))
  }
}

async function crunInKilobytes(crun: string, { path }: Bundle, state: string): Promise<number> {
  const root = join(state, 'crun-memory')
  const id = `bench-memory-${process.pid}`
  const run = spawnIn([crun, '--root', root, 'run', '--bundle', path, id])
  try {
    const end = Date.now() + 20_000
    while (childrenOf(run.pid as number).length === 0) {
      if (Date.now() > end || run.exitCode !== null) throw new Error('crun did not start a container')
      await silence(20)
    }
    await silence(200)
    return privateKilobytes(run.pid as number)
  } finally {
    for (const pid of childrenOf(run.pid as number)) process.kill(pid, 'SIGKILL')
    await new Promise((resolve) => (run.exitCode === null ? run.once('exit', resolve) : resolve(undefined)))
  }
}

function spawnIn(command: readonly string[]): ChildProcess {
  const [program, ...args] = inMountNamespace('exec "$@"', ['sh', ...command])
  return spawn(program as string, args, { stdio: 'ignore' })
}

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

/** Bytes that this process has in use. */
function heldHere(): number {
  collectGarbage()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

/** Kilobytes that only this process has. */
function privateKilobytes(pid: number): number {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, 'latin1')
  return [...text.matchAll(/^Private_(?:Clean|Dirty): +(\d+) kB$/gm)].reduce((sum, [, value]) => sum + Number(value), 0)
}

function parentOf(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
}

function childrenOf(pid: number): readonly number[] {
  const text = readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').trim()
  return text === '' ? [] : text.split(' ').map(Number)
}
