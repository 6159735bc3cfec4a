import type { Int64 } from '../../bundle/spec.ts'

/** One file of a cgroup and what is written to it. */
export interface CgroupSetting {
  /** Controller whose file it is; `cgroup` for files that every cgroup has. */
  readonly controller: string
  readonly file: string
  readonly value: string
  /** JSON Pointer into config.json. */
  readonly pointer: string
  /** Errno that is no failure: the kernel was built without what the file controls. */
  readonly tolerate?: string
  /**
   * Name of a set of files of which kernels have one or the other, by how they were built: a file may be
   * missing, but not all of the set.
   */
  readonly either?: string
  /** Whether it counts only for the container's program: its first process would not be born under it. */
  readonly late?: boolean
}

/** Where resources stand in config.json. */
export const resourcesPointer = '/linux/resources'

/** Collects the settings of one version of cgroups; what is undefined is not set. */
export class SettingList {
  readonly settings: CgroupSetting[] = []

  add(
    controller: string,
    file: string,
    value: string | Int64 | boolean | undefined,
    field: string,
    how: Pick<CgroupSetting, 'tolerate' | 'either' | 'late'> = {},
  ): void {
    if (value === undefined) return
    const text = typeof value === 'boolean' ? String(Number(value)) : String(value)
    this.settings.push({ controller, file, value: text, pointer: `${resourcesPointer}/${field}`, ...how })
  }
}

/** A number that is set: engines write 0 for what they leave alone, and runc takes it so. */
export function given(value: Int64 | undefined): Int64 | undefined {
  return value === undefined || Number(value) === 0 ? undefined : value
}

/** A text that is set: engines write the empty one for what they leave alone. */
export function givenText(value: string | undefined): string | undefined {
  return value === '' ? undefined : value
}

/** A limit as the files have it that know the word `max`. */
export function maximum(limit: Int64): string {
  return Number(limit) < 0 ? 'max' : String(limit)
}

/** Name of a device in the files of cgroups. */
export function deviceName(device: { readonly major: number; readonly minor: number }): string {
  return `${device.major}:${device.minor}`
}

/** What of RDMA devices both versions have: the file takes one line a device. */
export function rdmaLine(name: string, limits: { readonly hcaHandles?: number; readonly hcaObjects?: number }): string {
  const { hcaHandles, hcaObjects } = limits
  const parts = [
    ...(hcaHandles === undefined ? [] : [`hca_handle=${hcaHandles}`]),
    ...(hcaObjects === undefined ? [] : [`hca_object=${hcaObjects}`]),
  ]
  return [name, ...parts].join(' ')
}
