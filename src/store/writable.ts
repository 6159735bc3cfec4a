import { chmod, chown, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConflictError, InvalidArgumentError, NotFoundError } from '../errors.ts'
import type { Digest } from '../image/digest.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { quote } from '../internal/text.ts'
import type { LayerRecord } from './layer-record.ts'
import type { Layers } from './layers.ts'
import type { StorePaths } from './paths.ts'
import { stackOf } from './unpack.ts'
import { WorkDirectory } from './work-directory.ts'

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
  /** Whether it goes when this process ends, however that happens. Default false. */
  readonly ephemeral?: boolean | undefined
}

const recordName = 'writable.json'
const grammar = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/

/** The writable layers of a store. */
export class WritableLayers {
  readonly #paths: StorePaths
  readonly #layers: Layers

  constructor(paths: StorePaths, layers: Layers) {
    this.#paths = paths
    this.#layers = layers
  }

  /**
   * Makes a writable layer on the stack `chainId` (undefined: on nothing).
   * @throws ConflictError when there is one of that id. @throws NotFoundError when a layer is missing.
   */
  async create(chainId: Digest | undefined, { id, ephemeral = false }: WritableOptions): Promise<WritableLayer> {
    const target = this.#pathOf(id)
    const { layers: lower } = stackOf(await this.#stack(chainId), this.#layers)
    const work = await WorkDirectory.claim(this.#paths.temporary, `container-${id}`)
    let kept = false
    try {
      await mkdir(join(work.path, 'upper'))
      await mkdir(join(work.path, 'work'))
      // Overlayfs shows the root of the highest layer, which is the new one.
      if (lower[0] !== undefined) await copyAttributes(lower[0], join(work.path, 'upper'))
      else await chmod(join(work.path, 'upper'), 0o755)
      const record = { version: 1, id, ...(chainId === undefined ? {} : { chainId }) }
      if (ephemeral) {
        // It stays where whoever comes next removes what has no living owner.
        kept = true
        return handle(id, lower, work.path, () => work.release())
      }
      await writeFile(join(work.path, recordName), `${JSON.stringify(record)}\n`, { mode: 0o600 })
      await rename(work.path, target)
    } catch (error) {
      if (hasCode(error, 'ENOTEMPTY') || hasCode(error, 'EEXIST')) {
        throw new ConflictError(id, `there is a container layer ${quote(id)} already`, { cause: error })
      }
      throw fileError(error, 'making a container layer', id)
    } finally {
      if (!kept) await work.release()
    }
    return this.#handle(id, lower)
  }

  /** Opens a writable layer that was made before. @throws NotFoundError */
  async open(id: string): Promise<WritableLayer> {
    const path = join(this.#pathOf(id), recordName)
    try {
      const { chainId } = JSON.parse(await readFile(path, 'utf8')) as { chainId?: Digest }
      return this.#handle(id, stackOf(await this.#stack(chainId), this.#layers).layers)
    } catch (error) {
      if (hasCode(error, 'ENOENT')) throw new NotFoundError(id, `there is no container layer ${quote(id)}`)
      throw fileError(error, 'reading a container layer', id)
    }
  }

  #handle(id: string, lower: readonly string[]): WritableLayer {
    return handle(id, lower, this.#pathOf(id), () => this.#remove(id))
  }

  async #remove(id: string): Promise<void> {
    const trash = await WorkDirectory.claim(this.#paths.temporary, `container-${id}`)
    try {
      await trash.take(this.#pathOf(id))
    } finally {
      await trash.release()
    }
  }

  /** Records of the stack, the bottom layer first. */
  async #stack(chainId: Digest | undefined): Promise<readonly LayerRecord[]> {
    const records: LayerRecord[] = []
    for (let next = chainId; next !== undefined; ) {
      const record = await this.#layers.find(next)
      if (record === undefined) throw new NotFoundError(next, `layer ${next} is not unpacked`)
      records.unshift(record)
      next = record.parent
    }
    return records
  }

  #pathOf(id: string): string {
    if (!grammar.test(id)) {
      throw new InvalidArgumentError(`${quote(id)} can't be the id of a container`, { subject: 'id' })
    }
    return join(this.#paths.containers, id)
  }
}

function handle(id: string, lower: readonly string[], path: string, remove: () => Promise<void>): WritableLayer {
  let removal: Promise<void> | undefined
  return {
    id,
    lower,
    upper: join(path, 'upper'),
    work: join(path, 'work'),
    remove() {
      removal ??= remove()
      return removal
    },
  }
}

async function copyAttributes(from: string, to: string): Promise<void> {
  const { uid, gid, mode } = await stat(from)
  if (uid !== process.geteuid?.() || gid !== process.getegid?.()) await chown(to, uid, gid)
  await chmod(to, mode & 0o7777)
}
