import { randomUUID } from 'node:crypto'
import { chmodSync, chownSync, mkdirSync, renameSync, statSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ConflictError, InvalidArgumentError, NotFoundError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { quote } from '../internal/text.ts'
import { spawnOwner } from '../layer/apply/target.ts'
import { decodeStatx, STATX_BASIC_STATS, statxSize } from '../layer/diff/tree-node.ts'
import { out } from '../linux/call.ts'
import { AT_FDCWD, fchmod, fchown, O, O_DIRECTORY, openat, statx } from '../linux/calls/files.ts'
import type { Gate } from './gate.ts'
import type { LayerRecord } from './layer-record.ts'
import type { Layers } from './layers.ts'
import { type Lock, tryLock } from './lock.ts'
import type { StorePaths } from './paths.ts'
import { removeTree } from './remove-tree.ts'
import { stackOf, type UnpackedImage } from './unpack.ts'
import type { Volumes } from './volumes.ts'
import type { WantedVolume } from './wanted-volume.ts'
import {
  isPlainName,
  readWritableRecord,
  type WritableRecord,
  writableRecordName,
  writableRecords,
} from './writable-record.ts'

/** A writable layer on the layers of an image: what a container's root file system is stacked of. */
export interface WritableLayer {
  readonly id: string
  /** Directories for overlayfs, the highest one first; empty for an image without layers. */
  readonly lower: readonly string[]
  /** Takes the changes. */
  readonly upper: string
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
}

/**
 * The writable layers of a store. Making one is part of every start of a container, so it is done in
 * synchronous calls: some microseconds each, where Node's pool of threads takes a hundred.
 */
export class WritableLayers {
  readonly #paths: StorePaths
  readonly #layers: Layers
  readonly #volumes: Volumes
  readonly #gate: Gate

  constructor(paths: StorePaths, layers: Layers, volumes: Volumes, gate: Gate) {
    this.#paths = paths
    this.#layers = layers
    this.#volumes = volumes
    this.#gate = gate
  }

  /**
   * Makes a writable layer on the stack `chainId` (undefined: on nothing).
   * @throws ConflictError when there is one of that id. @throws NotFoundError when a layer is missing.
   */
  create(chainId: Digest | undefined, options: WritableOptions): Promise<WritableLayer> {
    // From the look at the layers to the record that keeps them nothing is collected.
    return this.#gate.shared(() => this.#create(chainId, options))
  }

  async #create(
    chainId: Digest | undefined,
    { id, ephemeral = false, image, volumes = [] }: WritableOptions,
  ): Promise<WritableLayer> {
    const target = this.#pathOf(id)
    const { layers: lower, chainIds } = await this.#stack(chainId)
    const lock = tryLock(this.#lockOf(id))
    if (lock === undefined) throw taken(id)
    try {
      if (readWritableRecord(target) !== undefined) throw taken(id)
      await removeTree(target)
      for (const volume of volumes) await this.#volumes.ensure(volume)
      await make(target, lower[0], {
        version: 1,
        id,
        ephemeral,
        ...(chainId === undefined ? {} : { chainId, layers: chainIds }),
        ...(image === undefined ? {} : { image }),
        ...(volumes.length === 0 ? {} : { volumes: volumes.map(({ name }) => name) }),
      })
    } catch (error) {
      lock.release({ remove: true })
      throw fileError(error, 'making a container layer', id)
    }
    if (!ephemeral) lock.release({ remove: true })
    return this.#handle(id, lower, ephemeral ? lock : undefined)
  }

  /** Opens a writable layer that was made before. @throws NotFoundError */
  async open(id: string): Promise<WritableLayer> {
    const record = readWritableRecord(this.#pathOf(id))
    if (record === undefined) throw new NotFoundError(id, `there is no container layer ${quote(id)}`)
    return this.#handle(id, (await this.#stack(record.chainId)).layers, undefined)
  }

  /** Removes a writable layer, whatever has become of the layers it was made on. Idempotent. */
  async remove(id: string): Promise<void> {
    await this.#handle(id, [], undefined).remove()
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

  #handle(id: string, lower: readonly string[], lock: Lock | undefined): WritableLayer {
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
      lower,
      upper: join(path, 'upper'),
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

  async #stack(chainId: Digest | undefined): Promise<UnpackedImage> {
    const records: LayerRecord[] = []
    for (let next = chainId; next !== undefined; ) {
      const record = await this.#layers.find(next)
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
      throw new InvalidArgumentError(`${quote(id)} can't be the id of a container`, { subject: 'id' })
    }
    return join(this.#paths.containers, id)
  }
}

function taken(id: string): ConflictError {
  return new ConflictError(id, `there is a container layer ${quote(id)} already`)
}

async function make(target: string, lower: string | undefined, record: WritableRecord): Promise<void> {
  const upper = join(target, 'upper')
  mkdirSync(target, { mode: 0o700 })
  mkdirSync(upper, { mode: 0o755 })
  mkdirSync(join(target, 'work'), { mode: 0o700 })
  // Overlayfs shows the root of the highest layer, which is the new one.
  if (lower !== undefined) await copyAttributes(lower, upper)
  else chmodSync(upper, 0o755)
  writeFileSync(join(target, writableRecordName), `${JSON.stringify(record)}\n`, { mode: 0o600 })
}

/** The owner may be one that an ordinary user has only in a user namespace. */
async function copyAttributes(from: string, to: string): Promise<void> {
  const { uid, gid, mode } = statSync(from)
  const isOwn = uid === process.geteuid?.() && gid === process.getegid?.()
  if (!isOwn && process.geteuid?.() !== 0) return copyMapped(from, to)
  if (!isOwn) chownSync(to, uid, gid)
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
