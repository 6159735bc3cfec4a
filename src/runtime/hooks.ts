import type { Hook, Hooks, Spec } from '../bundle/spec.ts'
import type { ContainerStatus, State } from '../bundle/state.ts'
import { RuntimeError } from '../errors.ts'
import type { ContainerRecord } from './state-directory.ts'

/** The moments at which hooks run (runtime-spec, config.md, "POSIX-platform Hooks"). */
export type HookKind = keyof Hooks

/** What a hook that is a function gets besides the state. */
export interface HookContext {
  /** The container's first process, as the host sees it; 0 when it has ended. Its namespaces are below /proc. */
  readonly pid: number
  /** Aborted when the operation that the hook is part of is. */
  readonly signal: AbortSignal
}

/**
 * A hook in this process, whose namespaces it sees. When it throws or rejects it has failed: by the rules of its kind
 * that ends the container or, for `poststop`, is a warning.
 */
export type HookFunction = (state: State, context: HookContext) => void | Promise<void>

/** Functions by the moment they run at, after the programs that the config has for it, in order. */
export type HookFunctions = { readonly [kind in HookKind]?: readonly HookFunction[] }

/** The container that hooks are run for. */
export interface HookTarget {
  readonly record: ContainerRecord
  readonly spec: Spec
  /** Descriptor that stands for the first process; undefined when it has ended. */
  readonly pidfd: number | undefined
}

/** Those of the create operation, in their order. */
export const createHooks = ['prestart', 'createRuntime', 'createContainer'] as const

/** Whether there is anything to run. */
export function hasHooks(kind: HookKind, spec: Spec, functions: HookFunctions = {}): boolean {
  return (spec.hooks?.[kind]?.length ?? 0) > 0 || (functions[kind]?.length ?? 0) > 0
}

/**
 * Runs the hooks of one moment, one after the other: the programs of the config, then the functions.
 * @throws RuntimeError naming the first that failed; those behind it are not run.
 */
export async function runHooks(
  kind: HookKind,
  target: HookTarget,
  functions: HookFunctions = {},
  signal: AbortSignal = new AbortController().signal,
): Promise<void> {
  for (const run of hookRuns(kind, target, functions, signal)) {
    signal.throwIfAborted()
    await run()
  }
}

/** Runs the hooks after the end: each of them, whatever becomes of the others. What fails is a warning. */
export async function runPoststopHooks(target: HookTarget, functions: HookFunctions = {}): Promise<void> {
  if (!hasHooks('poststop', target.spec, functions)) return
  for (const run of hookRuns('poststop', target, functions, new AbortController().signal)) {
    try {
      await run()
    } catch (error) {
      // The spec has the runtime log it: the container is gone, and nothing that is asked for has failed.
      process.emitWarning(error instanceof Error ? error.message : String(error), { code: 'OCI_HOOK' })
    }
  }
}

const statuses: Readonly<Record<HookKind, ContainerStatus>> = {
  // As it was when these hooks were part of the start, and programs that still use them expect.
  prestart: 'created',
  createRuntime: 'creating',
  createContainer: 'creating',
  startContainer: 'created',
  poststart: 'running',
  poststop: 'stopped',
}

function hookRuns(
  kind: HookKind,
  target: HookTarget,
  functions: HookFunctions,
  signal: AbortSignal,
): readonly (() => Promise<void>)[] {
  const { record, spec, pidfd } = target
  const { ociVersion, id, bundle, annotations } = record
  // Also of a process that has ended already: the hook is to know whose it was.
  const pid = kind === 'poststop' ? {} : { pid: record.pid }
  const state: State = {
    ociVersion,
    id,
    status: statuses[kind],
    ...pid,
    bundle,
    ...(annotations === undefined ? {} : { annotations }),
  }
  const programs = (spec.hooks?.[kind] ?? []).map((hook, index) => async () => {
    const pointer = `/hooks/${kind}/${index}`
    try {
      const { runHookProgram } = await import('./hook-program.ts')
      await runHookProgram({ kind, hook, target, state, signal })
    } catch (cause) {
      throw hookFailed(id, `the ${kind} hook ${hook.path}`, pointer, cause)
    }
  })
  const own = (functions[kind] ?? []).map((run) => async () => {
    try {
      await run(state, { pid: pidfd === undefined ? 0 : record.pid, signal })
    } catch (cause) {
      throw hookFailed(id, `a ${kind} hook of this program`, undefined, cause)
    }
  })
  return [...programs, ...own]
}

function hookFailed(id: string, what: string, pointer: string | undefined, cause: unknown): RuntimeError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new RuntimeError(`container ${id}: ${what} failed: ${reason}`, {
    step: `run ${what}`,
    pointer,
    subject: id,
    cause,
  })
}

/** One program to run. */
export interface HookRun {
  readonly kind: HookKind
  readonly hook: Hook
  readonly target: HookTarget
  /** What it gets on its standard input. */
  readonly state: State
  readonly signal: AbortSignal
}
