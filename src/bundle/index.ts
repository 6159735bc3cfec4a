/**
 * Bundles of the runtime-spec: config.json from an image config and options, read, written, checked.
 *
 * @module oci-ts/bundle
 */

export type { Bytes } from '../internal/units.ts'
export { defaultCapabilities, grantedCapabilities } from './capabilities.ts'
export type * from './features.ts'
export { createSpec, type ImageDefaults } from './generate.ts'
export { hostMaskedPaths } from './host.ts'
export type * from './options.ts'
export { type DefaultSeccompOptions, defaultSeccomp } from './seccomp-default.ts'
export * from './spec.ts'
export type * from './spec-linux.ts'
export type * from './spec-process.ts'
export type * from './spec-resources.ts'
export type * from './spec-seccomp.ts'
export type * from './state.ts'
export { type AccountFiles, type ResolvedUser, resolveUser } from './user.ts'
export { validateFeatures, validateProcess, validateResources, validateSpec, validateState } from './validate.ts'
export { readBundle, writeBundle } from './write.ts'
