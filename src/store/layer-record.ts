import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SpecError } from '../errors.ts'
import { type Digest, isDigest } from '../image/digest.ts'
import { hasCode } from '../internal/file-error.ts'
import { isJsonObject, parseJson } from '../internal/json.ts'

/** What is known of an unpacked layer; `layer.json` in its directory. */
export interface LayerRecord {
  readonly version: 1
  /** Of this layer on all that are below it. */
  readonly chainId: Digest
  readonly diffId: Digest
  /** ChainID of the layers below; absent for a bottom layer. */
  readonly parent?: Digest
  /** Bytes of the uncompressed archive. */
  readonly size: number
  readonly entries: number
  /** Whether it hides all layers below. */
  readonly opaqueRoot: boolean
  /** `files`: files say in it what is gone of lower layers, so that overlayfs can't stack it. */
  readonly marks?: 'files'
  /** The boot of the machine in which it was unpacked: until it is synced, it counts in that one only. */
  readonly bootId: string
}

const recordName = 'layer.json'
const syncedName = 'synced'

/** The layer's files, in its directory. */
export const diffName = 'diff'

/** Writes the record of a layer into its directory, which has not been published yet. */
export async function writeRecord(directory: string, record: LayerRecord): Promise<void> {
  await writeFile(join(directory, recordName), `${JSON.stringify(record, undefined, 2)}\n`, { mode: 0o600, flag: 'wx' })
}

/** Reads the record of a published layer; undefined when there is none that can be read. */
export async function readRecord(directory: string): Promise<LayerRecord | undefined> {
  const path = join(directory, recordName)
  try {
    return parseRecord(await readFile(path), path)
  } catch (error) {
    // A crash of the machine may leave a file without its content: the layer is made anew then.
    if (hasCode(error, 'ENOENT') || error instanceof SpecError) return undefined
    throw error
  }
}

function parseRecord(raw: Uint8Array, path: string): LayerRecord {
  const value = parseJson(raw, path)
  if (isJsonObject(value) && isRecord(value)) return value as unknown as LayerRecord
  throw new SpecError(path, [{ pointer: '', message: 'it is no layer record of version 1' }])
}

function isRecord({
  version,
  chainId,
  diffId,
  parent,
  size,
  entries,
  opaqueRoot,
  marks = 'files',
  bootId,
}: Record<string, unknown>): boolean {
  const digest = (text: unknown): boolean => typeof text === 'string' && isDigest(text)
  return (
    version === 1 &&
    digest(chainId) &&
    digest(diffId) &&
    (parent === undefined || digest(parent)) &&
    Number.isSafeInteger(size) &&
    Number.isSafeInteger(entries) &&
    typeof opaqueRoot === 'boolean' &&
    marks === 'files' &&
    typeof bootId === 'string'
  )
}

/** Notes that a layer is on the disk for good. */
export async function markSynced(directory: string): Promise<void> {
  await writeFile(join(directory, syncedName), '', { mode: 0o600 })
}

/** Whether a layer is on the disk for good. */
export async function isSynced(directory: string): Promise<boolean> {
  try {
    await stat(join(directory, syncedName))
    return true
  } catch (error) {
    if (hasCode(error, 'ENOENT')) return false
    throw error
  }
}

let bootId: Promise<string> | undefined

/** Names the present boot of the machine. */
export function currentBootId(): Promise<string> {
  bootId ??= readFile('/proc/sys/kernel/random/boot_id', 'latin1').then((text) => text.trim())
  return bootId
}
