import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { LinuxResources } from '../../bundle/spec-resources.ts'
import { ConflictError, RuntimeError, UnsupportedError } from '../../errors.ts'
import { hasCode } from '../../internal/file-error.ts'
import { replaceDeviceProgram } from './device-update.ts'
import { freeze, isFrozen, thaw } from './freezer.ts'
import type { Hierarchies } from './hierarchies.ts'
import { type CgroupLocation, readCgroupFile, textOf } from './location.ts'
import { planResources } from './resources.ts'
import { type CgroupSetting, given } from './setting.ts'

/**
 * Sets limits of a cgroup whose processes run. When one can't be set those before it are taken back.
 * @throws RuntimeError naming the file, the value and the place in `resources`. @throws ConflictError for a memory
 * limit below what is used, with checkBeforeUpdate. @throws UnsupportedError as create does.
 */
export async function updateCgroup(
  id: string,
  location: CgroupLocation,
  resources: LinuxResources,
  hierarchies: Hierarchies,
): Promise<void> {
  checkMemory(id, location, resources)
  const complete = withPresent(location, resources)
  const planned = planResources(complete, hierarchies)
  const deviceRules = planned.v1.filter(({ controller }) => controller === 'devices')
  const settings = [...planned.v1.filter(({ controller }) => controller !== 'devices'), ...planned.v2]
  new Update(id, location).apply(inOrder(settings, location))
  if (deviceRules.length > 0) await updateV1Devices(id, location, deviceRules)
  if (planned.devices !== undefined && location.v2 !== undefined) {
    replaceDeviceProgram(location.v2, planned.devices)
  }
}

/** Version 2 would kill for a limit that is too low, where version 1 refuses it. */
function checkMemory(id: string, location: CgroupLocation, { memory }: LinuxResources): void {
  const limit = given(memory?.limit)
  if (memory?.checkBeforeUpdate !== true || limit === undefined || Number(limit) < 0) return
  const names = { v1: 'memory.usage_in_bytes', v2: 'memory.current' }
  const usage = Number(readCgroupFile(location, 'memory', names) ?? 0)
  if (Number(limit) >= usage) return
  const message = `container ${id}: the memory limit ${limit} is below the ${usage} bytes that are in use`
  throw new ConflictError(id, message, { hint: 'Leave checkBeforeUpdate out to have the kernel enforce it anyway.' })
}

/** Values of one file are set together: those that are not given stay as they are. */
export function withPresent(location: CgroupLocation, resources: LinuxResources): LinuxResources {
  const { memory, cpu } = resources
  const { v1, v2 } = location
  let complete = resources
  if (given(memory?.swap) !== undefined && given(memory?.limit) === undefined) {
    complete = { ...complete, memory: { ...memory, limit: presentLimit(location) } }
  }
  const [quota, period] = [given(cpu?.quota), given(cpu?.period)]
  if (v2 !== undefined && !v1.has('cpu') && (quota === undefined) !== (period === undefined)) {
    const [max, presentPeriod] = (textOf(join(v2, 'cpu.max')) ?? 'max 100000').trim().split(' ')
    const presentQuota = max === 'max' ? -1 : Number(max)
    complete = { ...complete, cpu: { ...cpu, quota: quota ?? presentQuota, period: period ?? Number(presentPeriod) } }
  }
  return complete
}

/** The memory limit of a cgroup, in bytes; -1 for none. */
function presentLimit(location: CgroupLocation): number {
  const names = { v1: 'memory.limit_in_bytes', v2: 'memory.max' }
  const limit = Number(readCgroupFile(location, 'memory', names) ?? 'max')
  // Version 1 has a number of pages for none.
  return limit <= Number.MAX_SAFE_INTEGER ? limit : -1
}

/** Version 1: memory with swap may never be below memory, also between two writes. */
function inOrder(settings: readonly CgroupSetting[], location: CgroupLocation): readonly CgroupSetting[] {
  const swap = settings.find(({ file }) => file === 'memory.memsw.limit_in_bytes')
  if (swap === undefined) return settings
  const present = Number(readCgroupFile(location, 'memory', { v1: 'memory.memsw.limit_in_bytes' }) ?? 0)
  const rises = Number(swap.value) < 0 || Number(swap.value) > present
  return rises ? [swap, ...settings.filter((each) => each !== swap)] : settings
}

/** Files that the kernel checks against each other: in whatever order one comes, the other may have to be first. */
const dependent = /^cpu\.(cfs_(period|quota|burst)_us|max(\.burst)?|rt_(period|runtime)_us)$/

class Update {
  private readonly id: string
  private readonly location: CgroupLocation
  private readonly undo: (() => void)[] = []

  constructor(id: string, location: CgroupLocation) {
    this.id = id
    this.location = location
  }

  apply(settings: readonly CgroupSetting[]): void {
    const again: CgroupSetting[] = []
    const taken = new Map<string, boolean>()
    try {
      for (const setting of settings) {
        if (dependent.test(setting.file) && !this.tryOne(setting)) again.push(setting)
        else if (!dependent.test(setting.file)) this.one(setting, taken)
      }
      for (const setting of again) this.one(setting, taken)
      for (const setting of settings) {
        if (setting.either !== undefined && taken.get(setting.either) !== true) {
          throw new UnsupportedError(setting.pointer, `this kernel has no file like ${setting.file}`)
        }
      }
    } catch (error) {
      for (const back of this.undo.reverse()) back()
      throw error
    }
  }

  private tryOne(setting: CgroupSetting): boolean {
    try {
      this.write(setting)
      return true
    } catch (error) {
      if (hasCode(error, 'EINVAL')) return false
      throw this.failed(setting, error)
    }
  }

  private one(setting: CgroupSetting, taken: Map<string, boolean>): void {
    try {
      this.write(setting)
      if (setting.either !== undefined) taken.set(setting.either, true)
    } catch (error) {
      const isMissing = hasCode(error, 'ENOENT')
      if (isMissing && (setting.either !== undefined || setting.tolerate === 'ENOENT')) return
      if (setting.tolerate === 'any') return
      throw this.failed(setting, error)
    }
  }

  private write(setting: CgroupSetting): void {
    const path = join(directoryFor(this.location, setting.controller), setting.file)
    const before = textOf(path)?.trim()
    writeFileSync(path, setting.value, { flag: 'r+' })
    // A file of several lines takes one at a time.
    if (before === undefined || before === '' || before.includes('\n')) return
    this.undo.push(() => {
      try {
        writeFileSync(path, before, { flag: 'r+' })
      } catch {
        // The error that led here says more.
      }
    })
  }

  private failed({ file, value, pointer }: CgroupSetting, cause: unknown): RuntimeError {
    const { id } = this
    const step = `set ${file} to ${value}`
    const why = cause instanceof Error ? cause.message : String(cause)
    const hint = hasCode(cause, 'EBUSY') ? 'More than that is in use, and could not be given back.' : undefined
    const message = `container ${id}: ${step}: ${why} (${pointer})`
    return new RuntimeError(message, { step, pointer, subject: id, cause, hint })
  }
}

/** Directory of a controller's files. */
function directoryFor({ v1, v2 }: CgroupLocation, controller: string): string {
  const directory = v1.get(controller) ?? v2
  if (directory === undefined)
    throw new UnsupportedError(`a limit of ${controller}`, 'the container has no such cgroup')
  return directory
}

/** Version 1 takes rules one by one, of which the first forbids everything: nobody must run meanwhile. */
async function updateV1Devices(id: string, location: CgroupLocation, rules: readonly CgroupSetting[]): Promise<void> {
  const mayFreeze = location.v2 !== undefined || location.v1.has('freezer')
  const wasFrozen = isFrozen(location)
  if (mayFreeze && !wasFrozen) await freeze(location)
  try {
    for (const { controller, file, value, pointer } of rules) {
      try {
        writeFileSync(join(directoryFor(location, controller), file), value, { flag: 'r+' })
      } catch (cause) {
        const step = `set ${file} to ${value}`
        throw new RuntimeError(`container ${id}: ${step}`, { step, pointer, subject: id, cause })
      }
    }
  } finally {
    if (mayFreeze && !wasFrozen) await thaw(location)
  }
}

/** The controllers that `resources` need and the cgroup is not in yet, by version. */
export function missingControllers(
  location: CgroupLocation,
  resources: LinuxResources,
  hierarchies: Hierarchies,
): { readonly v1: readonly string[]; readonly v2: readonly string[] } {
  const planned = planResources(withPresent(location, resources), hierarchies)
  const enabled =
    location.v2 === undefined ? [] : readFileSync(join(location.v2, 'cgroup.controllers'), 'utf8').trim().split(' ')
  const names = (settings: readonly CgroupSetting[]): readonly string[] => [
    ...new Set(settings.map(({ controller }) => controller).filter((controller) => controller !== 'cgroup')),
  ]
  return {
    v1: names(planned.v1).filter((controller) => !location.v1.has(controller)),
    v2: names(planned.v2).filter((controller) => !enabled.includes(controller)),
  }
}
