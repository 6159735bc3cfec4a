import type { LinuxDeviceCgroup, LinuxResources } from '../../bundle/spec-resources.ts'
import { UnsupportedError } from '../../errors.ts'
import { type Hierarchies, v1MountPoint } from './hierarchies.ts'
import { type CgroupSetting, resourcesPointer } from './setting.ts'
import { v1Settings } from './settings-v1.ts'
import { onlyInV1, unifiedSettings, v2Settings } from './settings-v2.ts'

/** What resources come to on a host, each controller where it lives. */
export interface ResourcePlan {
  readonly v1: readonly CgroupSetting[]
  readonly v2: readonly CgroupSetting[]
  /** Rules for a device program; undefined when there are none, or version 1 has the controller. */
  readonly devices: readonly LinuxDeviceCgroup[] | undefined
}

/**
 * Sorts resources by the hierarchies of a host.
 * @throws UnsupportedError for a limit that only the other version of a controller knows.
 */
export function planResources(resources: LinuxResources, hierarchies: Hierarchies): ResourcePlan {
  const isInV1 = (controller: string): boolean => v1MountPoint(hierarchies, controller) !== undefined
  for (const { controller, field } of onlyInV1(resources)) {
    if (isInV1(controller)) continue
    const reason = `only cgroup version 1 has it, and this host has no controller ${controller} of that version`
    throw new UnsupportedError(`${resourcesPointer}/${field}`, reason)
  }
  const unified = unifiedSettings(resources)
  const wrong = unified.find(({ controller }) => isInV1(nameInV1(controller)))
  if (wrong !== undefined) {
    const reason = `this host has the controller ${wrong.controller} in cgroup version 1`
    throw new UnsupportedError(wrong.pointer, reason, { hint: 'Set the limit by its own field instead.' })
  }
  return {
    v1: v1Settings(resources).filter(({ controller }) => isInV1(controller)),
    v2: [...v2Settings(resources).filter(({ controller }) => !isInV1(nameInV1(controller))), ...unified],
    devices: isInV1('devices') ? undefined : resources.devices,
  }
}

/** Version 1 name of a controller of version 2. */
export function nameInV1(controller: string): string {
  return controller === 'io' ? 'blkio' : controller
}

/** What of `resources` has no effect on kernels of today, one sentence each; the spec advises against it. */
export function resourceWarnings(resources: LinuxResources, hierarchies: Hierarchies): readonly string[] {
  const { kernel, kernelTCP, useHierarchy } = resources.memory ?? {}
  const isV1 = v1MountPoint(hierarchies, 'memory') !== undefined
  const warnings: readonly (readonly [asked: boolean, text: string])[] = [
    [Number(kernel ?? 0) !== 0, 'memory.kernel has no effect: kernel memory is part of the limit'],
    [Number(kernelTCP ?? 0) !== 0 && !isV1, 'memory.kernelTCP has no effect: cgroup v2 has no limit of its own for it'],
    [
      useHierarchy === false,
      'memory.useHierarchy can not be off: memory is always counted with that of the groups below',
    ],
  ]
  return warnings.filter(([asked]) => asked).map(([, text]) => `linux.resources.${text}`)
}
