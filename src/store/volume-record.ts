import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { SpecError } from '../errors.ts'
import { fileError, hasCode } from '../internal/file-error.ts'
import { isJsonObject, parseJson } from '../internal/json.ts'

/** What is known of a volume; `volume.json` in its directory. */
export interface VolumeRecord {
  readonly version: 1
  /** Whether nobody has named it: it goes with the container that it was made for. */
  readonly anonymous: boolean
  readonly labels: Readonly<Record<string, string>>
  /** Milliseconds since the epoch. */
  readonly created: number
}

const recordName = 'volume.json'

/** The volume's files, in its directory. */
export const volumeDataName = 'data'

/** Writes the record of a volume into its directory, which has not been published yet. */
export async function writeVolumeRecord(directory: string, record: VolumeRecord): Promise<void> {
  await writeFile(join(directory, recordName), `${JSON.stringify(record)}\n`, { mode: 0o600, flag: 'wx' })
}

/**
 * The record of a volume; undefined when there is no volume. The directory is the volume: when a crash has taken the
 * record, what users keep in it is there all the same, and must not be taken for something to throw away.
 */
export async function readVolumeRecord(directory: string): Promise<VolumeRecord | undefined> {
  try {
    const value = parseJson(await readFile(join(directory, recordName)), directory)
    if (isRecord(value)) return value
  } catch (error) {
    if (!hasCode(error, 'ENOENT') && !(error instanceof SpecError))
      throw fileError(error, 'reading a volume', directory)
  }
  const since = await birth(directory)
  return since === undefined ? undefined : { version: 1, anonymous: false, labels: {}, created: since }
}

async function birth(directory: string): Promise<number | undefined> {
  try {
    const { birthtimeMs } = await stat(join(directory, volumeDataName))
    return Math.floor(birthtimeMs)
  } catch (error) {
    if (hasCode(error, 'ENOENT') || hasCode(error, 'ENOTDIR')) return undefined
    throw fileError(error, 'reading a volume', directory)
  }
}

function isRecord(value: unknown): value is VolumeRecord {
  if (!isJsonObject(value)) return false
  const { version, anonymous, labels, created } = value
  const areLabels = isJsonObject(labels) && Object.values(labels).every((label) => typeof label === 'string')
  return version === 1 && typeof anonymous === 'boolean' && areLabels && Number.isSafeInteger(created)
}
