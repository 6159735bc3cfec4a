import type { Spec } from '../bundle/spec.ts'
import { UnsupportedError } from '../errors.ts'

/**
 * Refuses what the spec defines and this version does not do: a setting that is silently left out is
 * worse than an error.
 * @throws UnsupportedError naming the setting by its JSON Pointer.
 */
export function refuseUnsupported(spec: Spec): void {
  const { linux = {} } = spec
  const missing: readonly (readonly [asked: boolean, pointer: string])[] = [
    [linux.intelRdt !== undefined, '/linux/intelRdt'],
  ]
  for (const [asked, pointer] of missing) {
    if (asked) throw new UnsupportedError(pointer, 'this version of oci-ts does not implement it yet')
  }
}
