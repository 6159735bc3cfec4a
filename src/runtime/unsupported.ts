import type { Spec } from '../bundle/spec.ts'
import { UnsupportedError } from '../errors.ts'

/**
 * Refuses what the spec defines and this version does not do: a setting that is silently left out is
 * worse than an error.
 * @throws UnsupportedError naming the setting by its JSON Pointer.
 */
export function refuseUnsupported(spec: Spec): void {
  const { process, linux = {} } = spec
  const { blockIO, hugepageLimits, network, rdma } = linux.resources ?? {}
  const missing: readonly (readonly [asked: boolean, pointer: string])[] = [
    [process?.terminal === true, '/process/terminal'],
    [Object.values(spec.hooks ?? {}).some((hooks) => (hooks?.length ?? 0) > 0), '/hooks'],
    [linux.intelRdt !== undefined, '/linux/intelRdt'],
    [(linux.mountLabel ?? '') !== '', '/linux/mountLabel'],
    [Object.keys(linux.netDevices ?? {}).length > 0, '/linux/netDevices'],
    [Object.keys(blockIO ?? {}).length > 0, '/linux/resources/blockIO'],
    [(hugepageLimits?.length ?? 0) > 0, '/linux/resources/hugepageLimits'],
    [Object.keys(network ?? {}).length > 0, '/linux/resources/network'],
    [Object.keys(rdma ?? {}).length > 0, '/linux/resources/rdma'],
  ]
  for (const [asked, pointer] of missing) {
    if (asked) throw new UnsupportedError(pointer, 'this version of oci-ts does not implement it yet')
  }
}
