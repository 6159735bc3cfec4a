import { randomBytes } from 'node:crypto'
import { mkdir, readdir, rename } from 'node:fs/promises'
import { join } from 'node:path'
import { syncFolder } from '../content/publish.ts'
import { ConflictError, InvalidArgumentError, NotFoundError } from '../errors.ts'
import { describe } from '../internal/choice.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { quote } from '../internal/text.ts'
import type { Gate } from './gate.ts'
import { hasLabels, type LabelFilters } from './labels.ts'
import type { StorePaths } from './paths.ts'
import { syncFileSystem } from './sync.ts'
import { treeSize } from './tree-size.ts'
import { readVolumeRecord, type VolumeRecord, volumeDataName, writeVolumeRecord } from './volume-record.ts'
import { anonymousVolume, type WantedVolume } from './wanted-volume.ts'
import { WorkDirectory } from './work-directory.ts'
import { isPlainName, type WritableRecord, writableRecords } from './writable-record.ts'

/** Files that outlive containers, and that several of them may share. */
export interface Volume {
  readonly name: string
  /** The directory with its files. */
  readonly path: string
  /** Whether nobody has named it: it goes with the container that it was made for. */
  readonly anonymous: boolean
  readonly labels: Readonly<Record<string, string>>
  readonly created: Date
  /** Ids of the containers that mount it, running or not. */
  readonly usedBy: readonly string[]
}

/** How a volume is made. */
export interface CreateVolumeOptions {
  readonly labels?: Readonly<Record<string, string>> | undefined
  readonly signal?: AbortSignal | undefined
}

/** Which volumes are listed. */
export interface ListVolumesOptions extends LabelFilters {
  /** Only those that no container mounts (true), or only the others (false). Default all. */
  readonly dangling?: boolean | undefined
}

/** How a volume is removed. */
export interface RemoveVolumeOptions {
  /** Whether it is no error that there is none. A volume that a container mounts stays either way. Default false. */
  readonly force?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

/** Which volumes are pruned. */
export interface PruneVolumesOptions extends LabelFilters {
  /** Also those that somebody has named. Default false: what has a name is kept for a reason. */
  readonly all?: boolean | undefined
  /** Only say what would be removed. Default false. */
  readonly dryRun?: boolean | undefined
  readonly signal?: AbortSignal | undefined
}

/** What pruning volumes removed, or would remove. */
export interface PruneVolumesReport {
  /** Names. */
  readonly volumes: readonly string[]
  /** Bytes on the disk. */
  readonly freed: number
}

/**
 * The volumes of a store. A volume is there when its directory is: it comes and goes by one rename. The records of
 * the containers say which are in use, so that no count can be wrong after a crash.
 */
export class Volumes {
  readonly #paths: StorePaths
  readonly #gate: Gate
  readonly #sync: boolean

  constructor(paths: StorePaths, gate: Gate, sync: boolean) {
    this.#paths = paths
    this.#gate = gate
    this.#sync = sync
  }

  /**
   * Makes a volume. One of that name that is there already is what the caller wants, and stays as it is.
   * @param name Letters, digits, `_`, `.` and `-`, at most 128, a letter or digit first. Default: a random one; the
   * volume is anonymous then.
   * @throws InvalidArgumentError for what can't be a name. @throws ConflictError when the volume is there with other
   * labels than those given.
   */
  async create(name?: string, { labels, signal }: CreateVolumeOptions = {}): Promise<Volume> {
    const wanted = name === undefined ? anonymousVolume() : { name }
    await this.ensure({ ...wanted, labels }, signal)
    const volume = await this.inspect(wanted.name)
    if (labels !== undefined && !haveSame(volume.labels, labels)) {
      throw new ConflictError(wanted.name, `there is a volume ${quote(wanted.name)} already, with other labels`)
    }
    return volume
  }

  /** The volumes, by name. */
  async list({ dangling, ...labels }: ListVolumesOptions = {}): Promise<readonly Volume[]> {
    const containers = await this.#containers()
    const names = (await readdir(this.#paths.volumes)).filter(isPlainName).sort()
    const found: Volume[] = []
    for (const name of names) {
      const volume = await this.#read(name, containers)
      if (volume === undefined || !hasLabels(volume.labels, labels)) continue
      if (dangling === undefined || dangling === (volume.usedBy.length === 0)) found.push(volume)
    }
    return found
  }

  /** @throws NotFoundError */
  async inspect(name: string): Promise<Volume> {
    const volume = await this.#read(name, await this.#containers())
    if (volume === undefined) throw new NotFoundError(name, `there is no volume ${quote(name)}`)
    return volume
  }

  /** Removes a volume with its files. @throws NotFoundError. @throws ConflictError when a container mounts it. */
  async remove(name: string, { force = false, signal }: RemoveVolumeOptions = {}): Promise<void> {
    this.#pathOf(name)
    const removed = await this.#removeAll(async () => {
      const volume = await this.#read(name, await this.#containers())
      if (volume === undefined) return []
      if (volume.usedBy.length === 0) return [volume]
      const users = volume.usedBy.map((id) => id.slice(0, 12)).join(', ')
      throw new ConflictError(name, `volume ${quote(name)} is mounted by container ${users}`, {
        hint: 'Remove the containers first.',
      })
    }, signal)
    if (removed.length === 0 && !force) throw new NotFoundError(name, `there is no volume ${quote(name)}`)
  }

  /** Removes the volumes that no container mounts, by default only those that nobody has named. */
  async prune(options: PruneVolumesOptions = {}): Promise<PruneVolumesReport> {
    const { all = false, dryRun = false, signal, ...labels } = options
    const unused = async (): Promise<readonly Volume[]> =>
      (await this.list({ ...labels, dangling: true })).filter(({ anonymous }) => all || anonymous)
    // Sizes take a while; nobody else should have to wait for that.
    const sizes = new Map<string, number>()
    const foreseen = await unused()
    for (const { name, path } of foreseen) sizes.set(name, await treeSize(path))
    const volumes = dryRun ? foreseen : await this.#removeAll(unused, signal)
    const names = volumes.map(({ name }) => name)
    return { volumes: names, freed: names.reduce((sum, name) => sum + (sizes.get(name) ?? 0), 0) }
  }

  /** Where the files of a volume are, or would be. @throws InvalidArgumentError for what can't be a name. */
  directoryOf(name: string): string {
    return join(this.#pathOf(name), volumeDataName)
  }

  /** Makes a volume where it is missing. For whoever has passed the gate. */
  async ensure({ name, anonymous = false, labels = {} }: WantedVolume, signal?: AbortSignal): Promise<void> {
    const target = this.#pathOf(name)
    for (const [key, value] of Object.entries(labels)) {
      if (typeof value !== 'string')
        throw new InvalidArgumentError(`label ${quote(key)} must be text`, { subject: 'labels' })
    }
    if ((await readVolumeRecord(target)) !== undefined) return
    const work = await WorkDirectory.claim(this.#paths.temporary, workName(name), signal)
    try {
      if ((await readVolumeRecord(target)) !== undefined) return
      await mkdir(join(work.path, volumeDataName), { mode: 0o755 })
      await writeVolumeRecord(work.path, { version: 1, anonymous, labels, created: Date.now() })
      await rename(work.path, target)
      // What has no name goes with its container, which a crash of the machine ends.
      if (this.#sync && !anonymous) await syncFolder(this.#paths.volumes)
    } catch (error) {
      throw fileError(error, 'making a volume', name)
    } finally {
      await work.release()
    }
  }

  /**
   * Fills an empty volume by `fill`, which gets an empty directory. It becomes the volume's in one step when
   * `container` is the only one that has it; others have its directory open, and it is filled in place.
   * Waits for others who are at it. @returns whether the volume was empty.
   */
  async fill(
    name: string,
    container: string,
    fill: (directory: string) => Promise<void>,
    signal?: AbortSignal,
  ): Promise<boolean> {
    const data = join(this.#pathOf(name), volumeDataName)
    if (!(await isEmpty(data))) return false
    const work = await WorkDirectory.claim(this.#paths.temporary, workName(name), signal)
    try {
      if (!(await isEmpty(data))) return false
      const { usedBy, anonymous } = await this.inspect(name)
      const isAlone = usedBy.every((id) => id === container)
      const directory = isAlone ? join(work.path, volumeDataName) : data
      if (isAlone) await mkdir(directory, { mode: 0o755 })
      await fill(directory)
      if (this.#sync && !anonymous) await syncFileSystem(directory)
      if (isAlone) await rename(directory, data)
      return true
    } catch (error) {
      throw fileError(error, 'filling a volume', name)
    } finally {
      await work.release()
    }
  }

  /** Removes those of the volumes that nobody has named and no container mounts: their container is gone. */
  async removeAnonymous(names: readonly string[]): Promise<void> {
    const anonymous: string[] = []
    for (const name of names) {
      if (isPlainName(name) && (await readVolumeRecord(this.#pathOf(name)))?.anonymous === true) anonymous.push(name)
    }
    if (anonymous.length === 0) return
    await this.#removeAll(async () => {
      const containers = await this.#containers()
      const found = await Promise.all(anonymous.map((name) => this.#read(name, containers)))
      return found.filter((volume) => volume !== undefined).filter(({ usedBy }) => usedBy.length === 0)
    })
  }

  /** Removes the volumes that `choose` finds, while no container can be made that mounts one. */
  async #removeAll(choose: () => Promise<readonly Volume[]>, signal?: AbortSignal): Promise<readonly Volume[]> {
    const trash = await WorkDirectory.claim(this.#paths.temporary, `volumes-${randomBytes(8).toString('hex')}`, signal)
    try {
      return await this.#gate.alone(async () => {
        const volumes = await choose()
        for (const { name } of volumes) await moveAway(this.#pathOf(name), join(trash.path, name))
        return volumes
      }, signal)
    } finally {
      await trash.release()
    }
  }

  #containers(): Promise<readonly WritableRecord[]> {
    return writableRecords(this.#paths.containers)
  }

  async #read(name: string, containers: readonly WritableRecord[]): Promise<Volume | undefined> {
    const path = this.#pathOf(name)
    const record: VolumeRecord | undefined = await readVolumeRecord(path)
    if (record === undefined) return undefined
    const { anonymous, labels, created } = record
    return {
      name,
      path: join(path, volumeDataName),
      anonymous,
      labels,
      created: new Date(created),
      usedBy: containers.filter(({ volumes = [] }) => volumes.includes(name)).map(({ id }) => id),
    }
  }

  #pathOf(name: string): string {
    if (!isPlainName(name)) {
      throw new InvalidArgumentError(`${describe(name)} can't be the name of a volume`, {
        subject: 'name',
        hint: 'A name has letters, digits, "_", "." and "-", at most 128, a letter or digit first. Directories are mounted by type "bind".',
      })
    }
    return join(this.#paths.volumes, name)
  }
}

function workName(name: string): string {
  return `volume-${name}`
}

async function isEmpty(path: string): Promise<boolean> {
  try {
    return (await readdir(path)).length === 0
  } catch (error) {
    // The image has given it to another user: it was filled.
    if (hasCode(error, 'EACCES')) return false
    throw error
  }
}

async function moveAway(from: string, to: string): Promise<void> {
  try {
    await rename(from, to)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw fileError(error, 'removing a volume', from)
  }
}

function haveSame(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a)
  return keys.length === Object.keys(b).length && keys.every((key) => Object.hasOwn(b, key) && a[key] === b[key])
}
