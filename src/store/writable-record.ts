import { readFileSync, writeFileSync } from 'node:fs'
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { SpecError } from '../errors.ts'
import { type Digest, isDigest } from '../image/digest.ts'
import { writeDurably } from '../internal/durable-record.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { isJsonObject, parseJson } from '../internal/json.ts'

/** `writable.json`, written last: without it the layer is not complete. */
export interface WritableRecord {
  readonly version: 1
  readonly id: string
  readonly chainId?: Digest
  /** All layers it is stacked on, by their ChainIDs: they are in use even if the record of one is damaged. */
  readonly layers?: readonly Digest[]
  readonly ephemeral: boolean
  readonly image?: Digest
  /** Names of the volumes that the container mounts. */
  readonly volumes?: readonly string[]
  /** Whether `upper/` is a copy of the layers, with the changes, and not what overlayfs puts over them. */
  readonly copied?: boolean
}

/** The record's file, in the directory of the layer. */
const recordName = 'writable.json'

/** Writes the record of a writable layer, which is complete with it. */
export function writeWritableRecord(directory: string, record: WritableRecord): void {
  writeFileSync(join(directory, recordName), `${JSON.stringify(record)}\n`, { mode: 0o600 })
}

/** Puts a record in the place of another one, in one step. */
export function replaceWritableRecord(directory: string, record: WritableRecord): void {
  writeDurably(directory, recordName, record)
}

const grammar = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$/

/** Whether a container's layer or a volume can have that name: it becomes the name of a directory. */
export function isPlainName(name: unknown): name is string {
  return typeof name === 'string' && grammar.test(name)
}

/** The record of a complete writable layer. Synchronous: it is part of every start of a container. */
export function readWritableRecord(directory: string): WritableRecord | undefined {
  try {
    const value = parseJson(readFileSync(join(directory, recordName)), directory)
    return isRecord(value) ? value : undefined
  } catch (error) {
    // A crash may leave a file without its content; it was the last step.
    if (hasCode(error, 'ENOENT') || error instanceof SpecError) return undefined
    throw fileError(error, 'reading a container layer', directory)
  }
}

/** Records that are read without a turn of the event loop: a millisecond or two. */
const atOnce = 64

/** The records of all writable layers that are complete, whoever they belong to. */
export async function writableRecords(containers: string): Promise<readonly WritableRecord[]> {
  const found: WritableRecord[] = []
  for (const [index, id] of (await readdir(containers)).entries()) {
    const record = isPlainName(id) ? readWritableRecord(join(containers, id)) : undefined
    if (record !== undefined) found.push(record)
    if (index % atOnce === atOnce - 1) await setImmediate()
  }
  return found
}

function isRecord(value: unknown): value is WritableRecord {
  if (!isJsonObject(value)) return false
  const { version, id, chainId, ephemeral, image, layers = [], volumes = [], copied = false } = value
  const mayBeDigest = (text: unknown): boolean => text === undefined || (typeof text === 'string' && isDigest(text))
  const areNames = Array.isArray(volumes) && volumes.every((name) => typeof name === 'string')
  const areDigests = mayBeDigest(chainId) && mayBeDigest(image) && Array.isArray(layers) && layers.every(mayBeDigest)
  const areFlags = typeof ephemeral === 'boolean' && typeof copied === 'boolean'
  return version === 1 && typeof id === 'string' && areFlags && areDigests && areNames
}
