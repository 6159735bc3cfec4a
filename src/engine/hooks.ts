import type { Hook, Hooks } from '../bundle/spec.ts'
import type { HookFunction, HookFunctions, HookKind } from '../runtime/index.ts'

/** Programs and functions by the moment they run at (runtime-spec, config.md, "POSIX-platform Hooks"). */
export type RunHooks = { readonly [kind in HookKind]?: readonly (Hook | HookFunction)[] }

/** The programs go into the config.json, the functions to whoever makes the container. Programs run first. */
export function sortHooks(hooks: RunHooks = {}): { readonly programs: Hooks; readonly functions: HookFunctions } {
  const kinds = Object.entries(hooks) as [HookKind, readonly (Hook | HookFunction)[]][]
  const sorted = kinds.map(([kind, list]) => ({
    kind,
    programs: list.filter((hook): hook is Hook => typeof hook !== 'function'),
    functions: list.filter((hook): hook is HookFunction => typeof hook === 'function'),
  }))
  return {
    programs: Object.fromEntries(sorted.filter((s) => s.programs.length > 0).map((s) => [s.kind, s.programs])),
    functions: Object.fromEntries(sorted.map((s) => [s.kind, s.functions])),
  }
}
