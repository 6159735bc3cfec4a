import { posix } from 'node:path'
import type {
  BindMountOption,
  MountOption,
  SpecMountOption,
  TmpfsMountOption,
  UserNamespace,
} from '../bundle/options.ts'
import type { Spec } from '../bundle/spec.ts'
import { InvalidArgumentError } from '../errors.ts'
import { ownIdMaps } from '../linux/own-ids.ts'
import type { Store, WantedVolume, WritableLayer } from '../store/index.ts'
import { ownersInside } from '../store/owner-map.ts'
import { anonymousVolume } from '../store/wanted-volume.ts'
import type { Image } from './image.ts'
import { mappedIds } from './runtime-root.ts'

/** A volume of the store. */
export interface VolumeMountOption {
  readonly type: 'volume'
  /**
   * Name of the volume; it is made when it is missing. Default: one without a name, which goes with the container.
   */
  readonly source?: string | undefined
  /** Absolute path in the container. */
  readonly target: string
  /** Whether it can't be written. Default false. */
  readonly readOnly?: boolean | undefined
  /** Whether an empty volume gets what the image has at the target, with owners and modes. Default true. */
  readonly copy?: boolean | undefined
  /** Of the volume, if it is made. */
  readonly labels?: Readonly<Record<string, string>> | undefined
}

/** A file or directory of the host. */
export interface HostMountOption extends BindMountOption {
  readonly type: 'bind'
}

/** A mount of a container: a directory of the host, a volume, memory, or what config.json can have. */
export type RunMountOption = HostMountOption | VolumeMountOption | TmpfsMountOption | SpecMountOption

interface VolumeMount {
  readonly volume: WantedVolume
  readonly target: string
  readonly copy: boolean
}

/** The mounts of a run, with volumes resolved to directories of the store. */
export interface ResolvedMounts {
  readonly mounts: readonly MountOption[]
  readonly volumes: readonly VolumeMount[]
}

/**
 * The mounts that the options ask for, and an anonymous volume for each path that the image wants to be one and that
 * nothing is mounted on.
 * @throws InvalidArgumentError
 */
export function resolveMounts(
  store: Store,
  { config }: Image,
  options: readonly RunMountOption[] = [],
  userNamespace?: UserNamespace,
): ResolvedMounts {
  const volumes: VolumeMount[] = []
  // What is in volumes has the ids that containers see, so that those with other namespaces can share them.
  const idmap = userNamespace !== undefined && process.geteuid?.() === 0
  const add = ({ source, target, copy = true, readOnly = false, labels }: VolumeMountOption): BindMountOption => {
    const wanted = source === undefined ? anonymousVolume() : { name: source }
    const volume = labels === undefined ? wanted : { ...wanted, labels }
    volumes.push({ volume, target, copy })
    return { type: 'volume', source: store.volumes.directoryOf(volume.name), target, readOnly, idmap }
  }
  const mounts = options.map((option) => (option.type === 'volume' ? add(option) : option))
  const taken = new Set(
    options.map((option) => normal(option.type === 'spec' ? option.mount.destination : option.target)),
  )
  for (const path of Object.keys(config.config?.Volumes ?? {})) {
    // What an image can't have meant.
    if (normal(path) === '/' || path.includes('\0')) continue
    if (taken.has(normal(path))) continue
    taken.add(normal(path))
    mounts.push(add({ type: 'volume', target: normal(path) }))
  }
  return { mounts, volumes }
}

function normal(path: string): string {
  if (typeof path !== 'string')
    throw new InvalidArgumentError('the target of a mount must be a path', { subject: 'mounts' })
  return posix.resolve('/', path)
}

/** Fills the volumes that are empty with what the image has. For volumes that the container's layer is made with. */
export async function fillVolumes(
  store: Store,
  layer: WritableLayer,
  { volumes, spec }: { readonly volumes: readonly VolumeMount[]; readonly spec: Spec },
  userNamespace: UserNamespace | undefined,
  signal: AbortSignal,
): Promise<void> {
  for (const { volume, target, copy } of volumes) {
    await store.volumes.fill(
      volume.name,
      layer.id,
      async (directory) => {
        if (!copy) return
        const { copyUp } = await import('./copy-up.ts')
        // What is copied has what the image has, as long as the container has not run.
        const lower = layer.copied === undefined ? layer.lower : [layer.upper]
        const ids = layer.copied === undefined ? undefined : mappedIds(spec)
        const owners = ids === undefined ? undefined : ownersInside(ids)
        await copyUp({ lower, path: target, directory, userNamespace: idsOf(userNamespace), owners }, signal)
      },
      signal,
    )
  }
}

/** Root sees the owners of layers as they are, whatever its containers see. */
function idsOf(userNamespace: UserNamespace | undefined): UserNamespace | undefined {
  if (process.geteuid?.() === 0) return undefined
  return userNamespace?.uidMappings === undefined ? ownIdMaps() : userNamespace
}
