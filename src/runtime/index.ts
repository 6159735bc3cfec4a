export { RuntimeContainer } from './container.ts'
export { type CreateOptions, createContainer } from './create.ts'
export type { OverlayRootfs } from './overlay.ts'
