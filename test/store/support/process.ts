import { type ChildProcessByStdio, spawn } from 'node:child_process'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'

const worker = fileURLToPath(new URL('worker.ts', import.meta.url))
const project = fileURLToPath(new URL('../../..', import.meta.url))

/** What a worker says in the end. */
export interface WorkerResult {
  readonly started: number
  readonly skipped: number
  readonly layers?: readonly string[]
  readonly code?: string
  readonly errno?: string
}

/** A process that unpacks an image. */
export interface Worker {
  readonly process: ChildProcessByStdio<null, Readable, Readable>
  /** Resolves when it begins to unpack, or has ended before. */
  readonly ready: Promise<void>
  /** What it says; undefined when it was killed. */
  readonly result: Promise<WorkerResult | undefined>
}

/** Starts a worker; `prefix` is a command to run it by. */
export function startWorker(root: string, reference: string, prefix: readonly string[] = []): Worker {
  const [command = '', ...args] = [...prefix, process.execPath, '--import', 'tsx', worker, root, reference]
  const child = spawn(command, args, { cwd: project, stdio: ['ignore', 'pipe', 'pipe'] })
  let out = ''
  let errors = ''
  child.stderr.on('data', (chunk: Buffer) => {
    errors += chunk.toString()
  })
  const ready = new Promise<void>((resolve) => {
    child.stdout.on('data', (chunk: Buffer) => {
      out += chunk.toString()
      if (out.includes('ready\n')) resolve()
    })
    child.once('close', () => resolve())
  })
  const result = new Promise<WorkerResult | undefined>((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (signal === 'SIGKILL') resolve(undefined)
      else if (code !== 0) reject(new Error(`the worker failed with ${code ?? signal}: ${errors}`))
      else resolve(JSON.parse(out.trim().split('\n').at(-1) ?? '') as WorkerResult)
    })
  })
  return { process: child, ready, result }
}
