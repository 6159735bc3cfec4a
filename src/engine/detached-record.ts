import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ConflictError } from '../errors.ts'
import type { ExecutionConfig } from '../image/config.ts'
import { writeDurably } from '../internal/durable-record.ts'
import { hasCode } from '../internal/file-error.ts'
import { isJsonObject } from '../internal/json.ts'
import { quote } from '../internal/text.ts'
import type { Store, WritableLayer } from '../store/index.ts'
import { lockFile } from '../store/lock.ts'
import { storePaths } from '../store/paths.ts'
import type { ContainerIds } from './container-root.ts'
import type { Image } from './image.ts'

/**
 * `container.json` of a detached container, beside its layer: what another process needs for a handle. It is
 * written before the container is made, so that one whose maker was killed meanwhile can be found and removed.
 */
export interface DetachedRecord {
  readonly version: 1
  readonly id: string
  readonly name: string
  /** As a whole: the handle must work when the image has been removed. */
  readonly image: Image
  /** The image's config with what was given to `run`. */
  readonly execution: ExecutionConfig
  readonly stopSignal: string | number
  /** Milliseconds. */
  readonly stopTimeout: number
  /** Ids of its user namespace; absent without one. */
  readonly ids?: ContainerIds
  /** Where the runtime records it. */
  readonly stateRoot: string
  /** Milliseconds since the epoch. */
  readonly created: number
}

const recordName = 'container.json'

/** Directory of a container in the store. */
export function directoryOf(store: Store, id: string): string {
  return join(storePaths(store.root).containers, id)
}

/**
 * Makes the layer of a detached container, and records it.
 * @throws ConflictError when a detached container of that name exists.
 */
export async function registerDetached(
  store: Store,
  record: DetachedRecord,
  makeLayer: (onMade: () => void) => Promise<WritableLayer>,
  signal: AbortSignal,
): Promise<WritableLayer> {
  // From the look at the names until the name is there, for all processes.
  const lock = await lockFile(join(storePaths(store.root).locks, 'names.lock'), signal)
  try {
    const other = (await detachedRecords(store)).find(({ name }) => name === record.name)
    if (other !== undefined) {
      const message = `there is a detached container named ${quote(record.name)} already: ${other.id}`
      throw new ConflictError(record.name, message, { hint: 'Remove it, attach to it, or choose another name.' })
    }
    return await makeLayer(() => {
      // A layer without it belongs to nobody.
      writeDurably(directoryOf(store, record.id), recordName, record)
      // Others need not wait until layers have been copied.
      lock.release()
    })
  } finally {
    lock.release()
  }
}

/** All detached containers of a store, the oldest first. */
export async function detachedRecords(store: Store): Promise<readonly DetachedRecord[]> {
  const ids = await readdir(storePaths(store.root).containers)
  const records = await Promise.all(ids.map((id) => readRecord(directoryOf(store, id))))
  return records.filter((record) => record !== undefined).sort((a, b) => a.created - b.created)
}

async function readRecord(directory: string): Promise<DetachedRecord | undefined> {
  try {
    const value: unknown = JSON.parse(await readFile(join(directory, recordName), 'utf8'))
    return isRecord(value) ? value : undefined
  } catch (error) {
    // A container that is attached to its process has none; one may be removed at this moment.
    if (hasCode(error, 'ENOENT') || error instanceof SyntaxError) return undefined
    throw error
  }
}

function isRecord(value: unknown): value is DetachedRecord {
  if (!isJsonObject(value) || value.version !== 1) return false
  const { id, name, image, execution, stopTimeout, stateRoot, created } = value
  const texts = [id, name, stateRoot].every((text) => typeof text === 'string')
  return (
    texts &&
    isJsonObject(image) &&
    isJsonObject(execution) &&
    typeof stopTimeout === 'number' &&
    typeof created === 'number'
  )
}
