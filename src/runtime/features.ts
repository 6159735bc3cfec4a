import type { Features } from '../bundle/features.ts'
import { capabilityNames } from '../linux/capabilities.ts'
import { seccompActions } from '../linux/seccomp/rules.ts'
import { seccompFlagBits, seccompMachines } from '../linux/seccomp.ts'
import { type HostFeatures, hostFeatures } from './host-features.ts'
import { knownMountOptions } from './mount-options.ts'
import { namespaceFlags } from './namespaces.ts'
import { memoryFlags, memoryModes } from './scheduling.ts'
import { propertyPrefix } from './systemd/annotations.ts'

export type { HostFeatures } from './host-features.ts'

const hooks = ['prestart', 'createRuntime', 'createContainer', 'startContainer', 'poststart', 'poststop']
const operators = ['NE', 'LT', 'LE', 'EQ', 'GE', 'GT', 'MASKED_EQ'].map((name) => `SCMP_CMP_${name}`)

/** What {@link features} tells. */
export interface RuntimeFeatures extends Features {
  /** What this host can do of it; not part of the specification. */
  readonly host: HostFeatures
}

/**
 * What this library does, by the names of config.json (runtime-spec, features.md), and under `host` what this
 * host can do of it.
 */
export async function features(): Promise<RuntimeFeatures> {
  const flags = Object.keys(seccompFlagBits)
  return {
    ociVersionMin: '1.0.0',
    ociVersionMax: '1.3.0',
    hooks,
    mountOptions: knownMountOptions,
    linux: {
      namespaces: Object.keys(namespaceFlags).sort(),
      capabilities: capabilityNames,
      cgroup: { v1: true, v2: true, systemd: true, systemdUser: true, rdma: true },
      seccomp: {
        enabled: true,
        actions: Object.keys(seccompActions),
        operators,
        archs: Object.values(seccompMachines)
          .flatMap((machine) => machine.flatMap(({ listed }) => listed.map(({ name }) => name)))
          .sort(),
        knownFlags: flags,
        supportedFlags: flags,
      },
      apparmor: { enabled: true },
      selinux: { enabled: true },
      intelRdt: { enabled: true },
      memoryPolicy: { modes: Object.keys(memoryModes), flags: Object.keys(memoryFlags) },
      mountExtensions: { idmap: { enabled: true } },
      netDevices: { enabled: true },
    },
    // All the others change nothing.
    potentiallyUnsafeConfigAnnotations: [propertyPrefix],
    host: await hostFeatures(),
  }
}
