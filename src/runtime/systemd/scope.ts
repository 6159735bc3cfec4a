import type { Spec } from '../../bundle/spec.ts'
import { InvalidArgumentError } from '../../errors.ts'
import { isInUserNamespace } from '../../linux/own-ids.ts'
import { annotatedProperties } from './annotations.ts'
import { type Property, SystemdManager } from './manager.ts'

/** The unit of a container: a scope, which systemd makes for processes that it did not start. */
export interface Scope {
  /** Its name: `prefix-name.scope`. */
  readonly unit: string
  readonly slice: string
  /** Path of its cgroup below the mount points. */
  readonly path: string
  /** Whether it is one of this user's systemd. */
  readonly isUser: boolean
  /** Version of systemd. */
  readonly version: number
  /** Properties that annotations ask for. */
  readonly annotated: readonly Property[]
}

/** What a record keeps of it. */
export type ScopeRecord = Pick<Scope, 'unit' | 'isUser'>

const pointer = 'linux.cgroupsPath'

/**
 * The scope for a container, which is not made yet.
 * @throws InvalidArgumentError unless `linux.cgroupsPath` is `slice:prefix:name`, or not given.
 * @throws UnsupportedError when no systemd answers.
 */
export async function scopeOf(id: string, spec: Spec): Promise<Scope> {
  const isUser = process.geteuid?.() !== 0 || isInUserNamespace()
  const { slice, unit } = parseScope(spec.linux?.cgroupsPath, id, isUser)
  const below = expandSlice(slice)
  const annotated = annotatedProperties(spec.annotations ?? {})
  await using manager = await SystemdManager.open(isUser)
  const [base, version] = await Promise.all([manager.controlGroup(), manager.version()])
  return { unit, slice, path: `${base}${below === '/' ? '' : below}/${unit}`, isUser, version, annotated }
}

/** Reads `slice:prefix:name` as runc does: default `system.slice`, or `user.slice` for a user's systemd. */
export function parseScope(
  cgroupsPath: string | undefined,
  id: string,
  isUser: boolean,
): { readonly slice: string; readonly unit: string } {
  const standard = isUser ? 'user.slice' : 'system.slice'
  const parts = cgroupsPath === undefined || cgroupsPath === '' ? ['', 'oci-ts', id] : cgroupsPath.split(':')
  const [slice = '', prefix = '', name = ''] = parts
  if (parts.length !== 3 || name === '') {
    const shown = JSON.stringify(cgroupsPath)
    throw new InvalidArgumentError(`${pointer} must be slice:prefix:name for cgroups through systemd: ${shown}`)
  }
  const unit = `${prefix === '' ? '' : `${prefix}-`}${name}.scope`
  // What systemd.unit(5) allows, but for escapes; a cgroup directory is named after it.
  if (!/^[A-Za-z0-9:_.-]{1,249}\.scope$/.test(unit)) {
    throw new InvalidArgumentError(`${pointer}: ${JSON.stringify(unit)} is no name of a unit`)
  }
  return { slice: slice === '' ? standard : slice, unit }
}

/** Path of a slice: `a-b.slice` is in `a.slice` (systemd.slice(5)). */
export function expandSlice(slice: string): string {
  const name = /^([A-Za-z0-9:_.-]{1,249})\.slice$/.exec(slice)?.[1]
  if (name === '-') return '/'
  const parts = name?.split('-') ?? ['']
  if (parts.includes('')) {
    throw new InvalidArgumentError(`${pointer}: ${JSON.stringify(slice)} is no name of a slice`)
  }
  return parts.map((_, index) => `/${parts.slice(0, index + 1).join('-')}.slice`).join('')
}

/** Has systemd make the scope, with `pid` in it. */
export async function startScope(
  id: string,
  pid: number,
  { unit, slice, isUser, annotated }: Scope,
  limits: readonly Property[],
): Promise<void> {
  const on = { signature: 'b', value: true }
  const properties: readonly Property[] = [
    ['Description', { signature: 's', value: `container ${id}` }],
    ['Slice', { signature: 's', value: slice }],
    ['PIDs', { signature: 'au', value: [pid] }],
    // What is in it is made by others than systemd, which hands down every controller.
    ['Delegate', on],
    ['DefaultDependencies', { signature: 'b', value: false }],
    ['MemoryAccounting', on],
    ['CPUAccounting', on],
    ['IOAccounting', on],
    ['TasksAccounting', on],
    // Also when the out-of-memory killer has ended it, nothing is to be left.
    ['CollectMode', { signature: 's', value: 'inactive-or-failed' }],
  ]
  await using manager = await SystemdManager.open(isUser)
  await manager.startTransient(unit, unique([...properties, ...limits, ...annotated]))
}

/** Has systemd forget the scope, and kill what is left in it. Idempotent. */
export async function stopScope(scope: ScopeRecord | undefined): Promise<void> {
  if (scope === undefined) return
  await using manager = await SystemdManager.open(scope.isUser)
  await manager.stop(scope.unit)
}

/** Tells systemd of limits that have changed. */
export async function changeScope(
  scope: ScopeRecord,
  limitsFor: (version: number) => readonly Property[],
): Promise<void> {
  await using manager = await SystemdManager.open(scope.isUser)
  const limits = limitsFor(await manager.version())
  if (limits.length > 0) await manager.setProperties(scope.unit, limits)
}

/** The last of each name: annotations have the last word. */
function unique(properties: readonly Property[]): readonly Property[] {
  return [...new Map(properties.map((property) => [property[0], property])).values()]
}
