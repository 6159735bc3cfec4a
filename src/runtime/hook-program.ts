import { spawn } from 'node:child_process'
import { closeSync, fstatSync, readSync, writeSync } from 'node:fs'
import { RuntimeError, TimeoutError } from '../errors.ts'
import { deadline, onAbort } from '../internal/abort.ts'
import { MFD, memfdCreate } from '../linux/calls/files.ts'
import { perform } from '../linux/local.ts'
import { execIn } from './exec.ts'
import type { HookRun } from './hooks.ts'

/** How much of what a hook writes to its standard error is told, in bytes. */
const told = 2000

interface Ended {
  readonly code: number
  readonly signal: string | undefined
}

/**
 * Runs the program of a hook: in the namespaces of the runtime or of the container, with the container's state as
 * standard input. @throws RuntimeError when it fails; TimeoutError.
 */
export async function runHookProgram(run: HookRun): Promise<void> {
  const { hook, state } = run
  const name = `the hook ${hook.path}`
  // The end of a pipe would have to be fed; and a program need not read it.
  const input = anonymousFile()
  const errors = anonymousFile()
  const { signal, clear } = deadline(name, hook.timeout === undefined ? undefined : hook.timeout * 1000, run.signal)
  try {
    // At a position, so that the program reads from the beginning.
    const text = Buffer.from(JSON.stringify(state))
    writeSync(input, text, 0, text.length, 0)
    const inside = run.kind === 'createContainer' || run.kind === 'startContainer'
    const ended = await (inside ? runInside : runOutside)({ ...run, signal }, input, errors)
    signal.throwIfAborted()
    if (ended.code === 0) return
    const how = ended.signal === undefined ? `exit code ${ended.code}` : `killed by ${ended.signal}`
    throw new RuntimeError(`${how}${tail(errors)}`, { step: `run ${name}` })
  } catch (error) {
    if (error instanceof TimeoutError)
      throw new RuntimeError(`${error.message}${tail(errors)}`, { step: `run ${name}` })
    throw error
  } finally {
    clear()
    closeSync(input)
    closeSync(errors)
  }
}

/** In the namespaces of this process, with nothing of its environment. */
function runOutside({ hook, state, signal }: HookRun, input: number, errors: number): Promise<Ended> {
  const [name = hook.path, ...args] = hook.args ?? []
  return new Promise((resolve, reject) => {
    const child = spawn(hook.path, args, {
      argv0: name,
      cwd: state.bundle,
      env: variables(hook.env),
      stdio: [input, 'ignore', errors],
      // A group of its own, to be killed with all that it has started.
      detached: true,
    })
    const unlink = onAbort(signal, () => {
      if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL')
    })
    child.once('error', reject)
    child.once('exit', (code, by) => {
      unlink()
      resolve({ code: code ?? 255, signal: by ?? undefined })
    })
  })
}

/** In the namespaces of the container: before its root is entered with all rights, after it as its program. */
async function runInside({ kind, hook, target, signal }: HookRun, input: number, errors: number): Promise<Ended> {
  const { record, spec, pidfd } = target
  if (pidfd === undefined) throw new RuntimeError('the container has ended', { step: `run the hook ${hook.path}` })
  const args = hook.args === undefined || hook.args.length === 0 ? [hook.path] : hook.args
  const { user, capabilities, noNewPrivileges } = spec.process ?? {}
  const own = {
    ...(user === undefined ? {} : { user }),
    ...(capabilities === undefined ? {} : { capabilities }),
    ...(noNewPrivileges === undefined ? {} : { noNewPrivileges }),
  }
  const process = { cwd: '/', args, env: hook.env ?? [], ...(kind === 'startContainer' ? own : {}) }
  const filtered = kind === 'startContainer' ? spec : { ...spec, linux: withoutFilter(spec.linux) }
  const started = await execIn({ record, spec: filtered, pidfd }, process, {
    stdio: [input, undefined, errors],
    program: hook.path,
    whole: true,
    signal,
  })
  const unlink = onAbort(signal, () => {
    try {
      started.kill('SIGKILL')
    } catch {
      // It has ended.
    }
  })
  const ended = await started.exited
  unlink()
  return ended
}

function withoutFilter(linux: HookRun['target']['spec']['linux'] = {}): NonNullable<typeof linux> {
  const { seccomp: _, ...others } = linux
  return others
}

function variables(env: readonly string[] = []): NodeJS.ProcessEnv {
  return Object.fromEntries(env.map((entry) => [entry.split('=', 1)[0], entry.slice(entry.indexOf('=') + 1)]))
}

function anonymousFile(): number {
  return perform(memfdCreate('oci-ts-hook', MFD.CLOEXEC, { step: 'make a file for a hook' }))
}

/** The last of what a hook has written to its standard error. */
function tail(errors: number): string {
  const { size } = fstatSync(errors)
  const bytes = Buffer.alloc(Math.min(size, told))
  readSync(errors, bytes, 0, bytes.length, size - bytes.length)
  const text = bytes.toString().trim()
  return text === '' ? '' : `: ${text}`
}
