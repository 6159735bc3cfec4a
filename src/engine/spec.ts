import { createSpec } from '../bundle/generate.ts'
import { hostMaskedPaths } from '../bundle/host.ts'
import type { MountOption } from '../bundle/options.ts'
import type { Spec } from '../bundle/spec.ts'
import { ownIdMaps } from '../linux/own-ids.ts'
import { hostUid as mappedUid } from '../runtime/host-uid.ts'
import { accountsOfImage } from './accounts.ts'
import type { ContainerIds } from './container-root.ts'
import { terminalOf } from './exec-process.ts'
import { sortHooks } from './hooks.ts'
import type { Image } from './image.ts'
import { forOrdinaryUser } from './rootless.ts'
import type { RunOptions } from './run-options.ts'

let maskedPaths: Promise<readonly string[]> | undefined

/** The config.json for a run of `image`, whose `layers` lie on disk. */
export async function buildSpec(
  id: string,
  image: Image,
  layers: readonly string[],
  mounts: readonly MountOption[],
  options: RunOptions,
): Promise<Spec> {
  // The machine does not change them.
  maskedPaths ??= hostMaskedPaths()
  const privileged = process.geteuid?.() === 0
  const { hooks, ...others } = options
  const { programs } = sortHooks(hooks)
  const spec = createSpec(image.config, {
    ...others,
    ...(Object.keys(programs).length === 0 ? {} : { hooks: programs }),
    ...terminalOf(options.tty),
    mounts,
    ...(privileged ? {} : { userNamespace: options.userNamespace ?? ownIdMaps() }),
    id,
    rootfs: 'upper',
    accounts: await accountsOfImage(layers),
    host: { maskedPaths: await maskedPaths, ...options.host },
  })
  const possible = privileged ? spec : forOrdinaryUser(spec)
  if (options.configure === undefined) return possible
  const configured = options.configure(possible) ?? possible
  // It may be of a program without types.
  const { validateSpec } = await import('../bundle/validate.ts')
  return validateSpec(configured)
}

/** The ids of the container's user namespace; undefined without one. */
export function idsOf(spec: Spec): ContainerIds | undefined {
  const { uidMappings = [], gidMappings = [] } = spec.linux ?? {}
  return uidMappings.length === 0 ? undefined : { uidMappings, gidMappings }
}

/** Uid of the host that the container's process has; its own where that is not mapped. */
export function hostUid(spec: Spec): number {
  return mappedUid(spec) ?? spec.process?.user?.uid ?? 0
}
