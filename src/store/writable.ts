import { randomUUID } from 'node:crypto'
import { chmodSync, chownSync, mkdirSync, renameSync, statSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ConflictError, InvalidArgumentError, NotFoundError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { describe } from '../internal/choice.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { quote } from '../internal/text.ts'
import { spawnOwner } from '../layer/apply/target.ts'
import { decodeStatx, STATX_BASIC_STATS, statxSize } from '../layer/diff/tree-node.ts'
import { out } from '../linux/call.ts'
import { AT_FDCWD, fchmod, fchown, O, O_DIRECTORY, openat, statx } from '../linux/calls/files.ts'
import type { IdMaps } from '../linux/id-maps.ts'
import { copyLayers } from './copy-layers.ts'
import type { Gate } from './gate.ts'
import type { LayerRecord } from './layer-record.ts'
import type { Layers } from './layers.ts'
import { type Lock, tryLock } from './lock.ts'
import { ownersOnHost } from './owner-map.ts'
import type { StorePaths } from './paths.ts'
import { removeTree } from './remove-tree.ts'
import type { Rootfs } from './rootfs.ts'
import { syncFileSystem } from './sync.ts'
import { stackOf, type UnpackedImage } from './unpack.ts'
import type { Volumes } from './volumes.ts'
import type { WantedVolume } from './wanted-volume.ts'
import {
  isPlainName,
  readWritableRecord,
  replaceWritableRecord,
  type WritableRecord,
  writableRecords,
  writeWritableRecord,
} from './writable-record.ts'

/** A writable layer on the layers of an image: what a container's root file system is stacked of. */
export interface WritableLayer {
  readonly id: string
  /** Directories for overlayfs, the highest one first; empty for an image without layers, and when they are copied. */
  readonly lower: readonly string[]
  /** Takes the changes; or has all files, when there is nothing to stack. */
  readonly upper: string
  /** What `upper` was a copy of, when it was made: directories of layers, the highest one first. Undefined with overlayfs. */
  readonly copied: readonly string[] | undefined
  /** What whoever runs the container should know. */
  readonly warnings: readonly string[]
  /** For overlayfs; on the same file system as `upper`. */
  readonly work: string
  /** Removes it with all changes; must not be mounted any more. Idempotent. */
  remove(): Promise<void>
}

/** How a writable layer is made. */
export interface WritableOptions {
  /** Its name, that of the container: letters, digits, `_`, `.` and `-`, at most 128, a letter or digit first. */
  readonly id: string
  /**
   * Whether it goes with this process: when that has ended, whoever opens the store next removes the layer.
   * Default false.
   */
  readonly ephemeral?: boolean | undefined
  /** Manifest of the image it is made on: as long as the layer is there the image counts as in use. */
  readonly image?: Digest | undefined
  /**
   * Volumes that the container mounts: they are in use as long as the layer is there. Those that are missing are
   * made; those without a name of the user's go with the layer.
   */
  readonly volumes?: readonly WantedVolume[] | undefined
  /** Whether the layers are copied, for want of overlayfs. Default: see {@link StoreOptions.rootfs}. */
  readonly rootfs?: Rootfs['kind'] | undefined
  /**
   * For root: the ids of the user namespace of the container. What is made on the host for it has owners by them; what is
   * in layers stays as it is.
   */
  readonly ids?: IdMaps | undefined
  /** Called when its directory is there, before layers are copied into it, which takes its time. What it throws undoes the layer. */
  readonly onMade?: (() => void) | undefined
  readonly signal?: AbortSignal | undefined
}

/** What a handle is made of. */
interface Parts {
  readonly id: string
  /** Directories, the highest one first. */
  readonly layers: readonly string[]
  readonly copied: boolean
}

const upperName = 'upper'

/**
 * The writable layers of a store. Making one is part of every start of a container, so it is done in
 * synchronous calls: some microseconds each, where Node's pool of threads takes a hundred.
 */
export class WritableLayers {
  readonly #paths: StorePaths
  readonly #layers: Layers
  readonly #volumes: Volumes
  readonly #gate: Gate
  readonly #sync: boolean

  constructor(paths: StorePaths, layers: Layers, volumes: Volumes, gate: Gate, sync: boolean) {
    this.#paths = paths
    this.#layers = layers
    this.#volumes = volumes
    this.#gate = gate
    this.#sync = sync
  }

  /**
   * Makes a writable layer on the stack `chainId` (undefined: on nothing).
   * @throws ConflictError when there is one of that id. @throws NotFoundError when a layer is missing.
   */
  async create(chainId: Digest | undefined, options: WritableOptions): Promise<WritableLayer> {
    const { ephemeral = false } = options
    // From the look at the layers to the record that keeps them nothing is collected.
    const { parts, lock } = await this.#gate.shared(() => this.#begin(chainId, options))
    try {
      options.onMade?.()
      if (parts.copied) await this.#copy(parts, options)
    } catch (error) {
      await this.#handle(parts, lock).remove()
      throw error
    }
    if (!ephemeral) lock.release({ remove: true })
    return this.#handle(parts, ephemeral ? lock : undefined)
  }

  async #begin(
    chainId: Digest | undefined,
    { id, ephemeral = false, image, volumes = [], rootfs, ids }: WritableOptions,
  ): Promise<{ readonly parts: Parts; readonly lock: Lock }> {
    const target = this.#pathOf(id)
    const { layers, chainIds } = await this.#stack(chainId, rootfs === 'copy')
    const copied = rootfs === 'copy' && layers.length > 0
    const lock = tryLock(this.#lockOf(id))
    if (lock === undefined) throw taken(id)
    try {
      if (readWritableRecord(target) !== undefined) throw taken(id)
      await removeTree(target)
      for (const volume of volumes) await this.#volumes.ensure(volume)
      await make(target, copied ? undefined : layers[0], ids, {
        version: 1,
        id,
        // What is to be copied is not complete before that is done.
        ephemeral: ephemeral || copied,
        ...(chainId === undefined ? {} : { chainId, layers: chainIds }),
        ...(image === undefined ? {} : { image }),
        ...(volumes.length === 0 ? {} : { volumes: volumes.map(({ name }) => name) }),
        ...(copied ? { copied } : {}),
      })
    } catch (error) {
      lock.release({ remove: true })
      throw fileError(error, 'making a container layer', id)
    }
    return { parts: { id, layers, copied }, lock }
  }

  async #copy({ id, layers }: Parts, { ephemeral = false, ids, signal }: WritableOptions): Promise<void> {
    const path = this.#pathOf(id)
    const owners = ids === undefined ? undefined : ownersOnHost(ids)
    await copyLayers(layers, join(path, upperName), { owners, signal })
    if (ephemeral) return
    if (this.#sync) await syncFileSystem(this.#paths.root)
    const record = readWritableRecord(path)
    if (record === undefined) throw new NotFoundError(id, `container layer ${quote(id)} has been removed`)
    replaceWritableRecord(path, { ...record, ephemeral: false })
  }

  /** Opens a writable layer that was made before. @throws NotFoundError */
  async open(id: string): Promise<WritableLayer> {
    const record = readWritableRecord(this.#pathOf(id))
    if (record === undefined) throw new NotFoundError(id, `there is no container layer ${quote(id)}`)
    const { chainId, copied = false } = record
    const { layers } = await this.#stack(chainId, copied)
    return this.#handle({ id, layers, copied }, undefined)
  }

  /** Removes a writable layer, whatever has become of the layers it was made on. Idempotent. */
  async remove(id: string): Promise<void> {
    await this.#handle({ id, layers: [], copied: false }, undefined).remove()
  }

  /** All that are complete, whoever they belong to. */
  records(): Promise<readonly WritableRecord[]> {
    return writableRecords(this.#paths.containers)
  }

  /** Removes what dead processes were making, and what was to go with them. */
  async reclaim(): Promise<void> {
    for (const id of await readdir(this.#paths.containers)) {
      const record = isPlainName(id) ? readWritableRecord(this.#pathOf(id)) : undefined
      if (record?.ephemeral === false) continue
      const lock = tryLock(this.#lockOf(id))
      if (lock === undefined) continue
      try {
        // It may have become complete since it was looked at.
        if (readWritableRecord(this.#pathOf(id))?.ephemeral !== false) await this.#discard(id)
      } finally {
        lock.release({ remove: true })
      }
    }
  }

  #handle({ id, layers, copied }: Parts, lock: Lock | undefined): WritableLayer {
    const path = this.#pathOf(id)
    let removed: Promise<void> | undefined
    const remove = async (): Promise<void> => {
      // Another process may have it, if it is to go with that one: removing it is what the caller wants.
      const own = lock ?? tryLock(this.#lockOf(id))
      try {
        await this.#discard(id)
      } finally {
        own?.release({ remove: true })
      }
    }
    return {
      id,
      lower: copied ? [] : layers,
      upper: join(path, upperName),
      copied: copied ? layers : undefined,
      warnings: [],
      work: join(path, 'work'),
      remove() {
        removed ??= remove()
        return removed
      },
    }
  }

  /** Moves it away, so that it is gone at once, then removes what is in it. */
  async #discard(id: string): Promise<void> {
    const path = this.#pathOf(id)
    const { volumes = [] } = readWritableRecord(path) ?? {}
    const trash = join(this.#paths.temporary, randomUUID())
    try {
      renameSync(path, trash)
    } catch (error) {
      if (hasCode(error, 'ENOENT')) return
      throw fileError(error, 'removing a container layer', id)
    }
    await removeTree(trash)
    await this.#volumes.removeAnonymous(volumes)
  }

  async #stack(chainId: Digest | undefined, toCopy: boolean): Promise<UnpackedImage> {
    const records: LayerRecord[] = []
    for (let next = chainId; next !== undefined; ) {
      const record = await this.#layers.find(next, toCopy)
      if (record === undefined) throw new NotFoundError(next, `layer ${next} is not unpacked`)
      records.unshift(record)
      next = record.parent
    }
    return stackOf(records, this.#layers)
  }

  #lockOf(id: string): string {
    return join(this.#paths.locks, `container-${id}.lock`)
  }

  #pathOf(id: string): string {
    if (!isPlainName(id)) {
      throw new InvalidArgumentError(`${describe(id)} can't be the id of a container`, { subject: 'id' })
    }
    return join(this.#paths.containers, id)
  }
}

function taken(id: string): ConflictError {
  return new ConflictError(id, `there is a container layer ${quote(id)} already`)
}

async function make(
  target: string,
  lower: string | undefined,
  ids: IdMaps | undefined,
  record: WritableRecord,
): Promise<void> {
  const upper = join(target, upperName)
  mkdirSync(target, { mode: 0o700 })
  mkdirSync(upper, { mode: 0o755 })
  mkdirSync(join(target, 'work'), { mode: 0o700 })
  // Overlayfs shows the root of the highest layer, which is the new one.
  if (lower !== undefined) await copyAttributes(lower, upper, ids)
  else chmodSync(upper, 0o755)
  writeWritableRecord(target, record)
}

/** The owner may be one that an ordinary user has only in a user namespace. */
async function copyAttributes(from: string, to: string, ids: IdMaps | undefined): Promise<void> {
  const { uid, gid, mode } = statSync(from)
  const isOwn = uid === process.geteuid?.() && gid === process.getegid?.()
  if (!isOwn && process.geteuid?.() !== 0) return copyMapped(from, to)
  if (ids !== undefined) chownSync(to, ownersOnHost(ids).uid(uid), ownersOnHost(ids).gid(gid))
  else if (!isOwn) chownSync(to, uid, gid)
  chmodSync(to, mode & 0o7777)
}

async function copyMapped(from: string, to: string): Promise<void> {
  const why = { step: 'give the root of the container its owner' }
  await using process = await spawnOwner(why.step)
  const stat = out(statxSize)
  const { uid, gid, mode } = decodeStatx(
    (await process.run([statx(AT_FDCWD, from, 0, STATX_BASIC_STATS, stat, why)])).bytes(stat),
  )
  const opened = openat(AT_FDCWD, to, O.RDONLY | O_DIRECTORY, 0, why)
  await process.run([opened, fchown(opened, uid, gid, why), fchmod(opened, mode, why)])
}
