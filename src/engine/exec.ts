import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import { ConflictError, ExecError, InvalidArgumentError, LimitError, type OciErrorOptions } from '../errors.ts'
import { deadline, onAbort } from '../internal/abort.ts'
import { toBytes, toMilliseconds } from '../internal/units.ts'
import { accountsInRoot } from './accounts.ts'
import type { ExecOptions, ExecResult, SpawnOptions } from './exec-options.ts'
import { execProcess } from './exec-process.ts'
import { ContainerProcess } from './process.ts'
import type { Runner } from './runner.ts'
import { hostUid } from './spec.ts'
import { openStdio } from './stdio.ts'

/** Starts a program in a container; see `Container.spawn`. */
export async function spawnIn(
  runner: Runner,
  argv: readonly string[],
  options: SpawnOptions,
): Promise<ContainerProcess> {
  const { input, signal, stdin = 'none' } = options
  signal?.throwIfAborted()
  if (input !== undefined && options.stdin !== undefined) {
    throw new InvalidArgumentError('input and stdin exclude each other', { subject: 'input' })
  }
  const spec = await runner.config()
  const process = execProcess(spec, argv, options, () => accountsInRoot(`/proc/${runner.pid}/root`))
  if (process.terminal === true) {
    const runtime = await runner.exec(process, { signal })
    const started = new ContainerProcess(runtime, undefined)
    feed(started, input)
    return started
  }
  const owner = hostUid({ ...spec, process: { cwd: '/', ...spec.process, ...process } })
  const stdio = openStdio(stdin === 'pipe' || input !== undefined, owner)
  try {
    const runtime = await runner.exec(process, { stdio: stdio.descriptors, signal })
    stdio.handOver()
    const started = new ContainerProcess(runtime, stdio)
    feed(started, input)
    return started
  } catch (error) {
    stdio.close()
    throw error
  }
}

/** Runs a program in a container to its end; see `Container.exec`. */
export async function execIn(runner: Runner, argv: readonly string[], options: ExecOptions): Promise<ExecResult> {
  const timeout = options.timeout === undefined ? undefined : toMilliseconds(options.timeout, 'timeout')
  const limit = toBytes(options.maxOutput ?? '64m', 'maxOutput')
  const what = `${argv[0] ?? ''} in container ${runner.id.slice(0, 12)}`
  const { signal, clear } = deadline(what, timeout, options.signal)
  try {
    const started = await spawnIn(runner, argv, { ...options, signal })
    try {
      return await collect(started, what, limit, signal, options)
    } finally {
      await started[Symbol.asyncDispose]()
    }
  } finally {
    clear()
  }
}

async function collect(
  started: ContainerProcess,
  what: string,
  limit: number,
  signal: AbortSignal,
  options: ExecOptions,
): Promise<ExecResult> {
  const outputs: { readonly stdout: Buffer[]; readonly stderr: Buffer[] } = { stdout: [], stderr: [] }
  let size = 0
  let failure: OciErrorOptions['cause']
  const stop = (cause: unknown): void => {
    failure ??= cause
    try {
      started.kill('SIGKILL')
    } catch (error) {
      if (!(error instanceof ConflictError)) throw error
    }
  }
  for (const name of ['stdout', 'stderr'] as const) {
    started[name].on('data', (chunk: Buffer) => {
      size += chunk.length
      if (size > limit) stop(new LimitError(`the output of ${what}`, limit, 'bytes'))
      else outputs[name].push(chunk)
    })
  }
  const unlink = onAbort(signal, () => stop(signal.reason))
  try {
    await started.drained()
  } finally {
    unlink()
  }
  const { code, signal: endedBy } = await started.exited
  const text = (chunks: readonly Buffer[]): string => Buffer.concat(chunks).toString()
  const result = { stdout: text(outputs.stdout), stderr: text(outputs.stderr), exitCode: code, signal: endedBy }
  // The caller's own reason is the caller's own error.
  options.signal?.throwIfAborted()
  if (failure !== undefined) throw new ExecError(what, result, { cause: failure })
  if (options.check === true && code !== 0) throw new ExecError(what, result)
  return result
}

function feed({ stdin }: ContainerProcess, input: SpawnOptions['input']): void {
  if (input === undefined || stdin === undefined) return
  // A program need not read what it is given.
  if (input instanceof Readable) pipeline(input, stdin).catch(() => {})
  else stdin.end(input)
}
