import { createReadStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Readable } from 'node:stream'
import { hostPlatform, parsePlatform } from '../image/platform.ts'
import { fileError } from '../internal/file-error.ts'
import { decompress } from '../layer/decompress.ts'
import { withContent, writeLayer } from '../layer/diff/layer-stream.ts'
import { openTree } from '../layer/diff/open-tree.ts'
import { treeEntries } from '../layer/diff/trees.ts'
import { completeLimits } from '../layer/limits.ts'
import { TarReader } from '../layer/tar/reader.ts'
import type { Store } from '../store/index.ts'
import type { CommitOptions } from './commit.ts'
import type { Image } from './image.ts'
import {
  changedConfig,
  historyEntry,
  imageName,
  imageTime,
  type NewImageOptions,
  storeImage,
  storeLayer,
} from './new-image.ts'

/** How a root file system becomes an image. */
export interface ImportOptions extends NewImageOptions {
  /** `os/architecture[/variant]` that it is for. Default that of this machine. */
  readonly platform?: string | undefined
  /** Of a directory: told of what can't be part of a layer. */
  readonly onWarning?: CommitOptions['onWarning']
}

/** Makes an image of one layer. */
export async function importImage(store: Store, source: string | Readable, options: ImportOptions): Promise<Image> {
  const { signal } = options
  signal?.throwIfAborted()
  imageName(options.name)
  const time = imageTime(options)
  const platform = options.platform === undefined ? hostPlatform() : parsePlatform(options.platform)
  const config = changedConfig({ ...platform, rootfs: { type: 'layers', diff_ids: [] } }, options, time)
  await using lease = await store.lease({ signal })
  const layer = await storeLayer(store, lease, await archiveOf(source, time.latest, options), options)
  const history = [historyEntry('oci-ts import', options, time)]
  return await storeImage(store, lease, { config, history, layers: [layer] }, options)
}

async function archiveOf(
  source: string | Readable,
  latest: number | undefined,
  { onWarning }: ImportOptions,
): Promise<AsyncIterable<Buffer>> {
  if (typeof source !== 'string') return checkedArchive(source)
  const found = await stat(source).catch((error: unknown) => {
    throw fileError(error, 'reading a root file system', source)
  })
  if (!found.isDirectory()) return checkedArchive(createReadStream(source, { highWaterMark: 1 << 18 }))
  return archiveOfDirectory(source, latest, onWarning)
}

/** The archive as it is, decompressed; nothing that could not be unpacked becomes a layer. */
async function* checkedArchive(source: Readable): AsyncGenerator<Buffer, void, undefined> {
  const nothing = (): void => {}
  const handler = { entry: nothing, data: nothing, hole: nothing, entryEnd: nothing }
  const reader = new TarReader(handler, completeLimits())
  for await (const chunk of decompress(source)) {
    reader.write(chunk)
    yield chunk
  }
  reader.end()
}

async function* archiveOfDirectory(
  directory: string,
  latest: number | undefined,
  onWarning: ImportOptions['onWarning'],
): AsyncGenerator<Buffer, void, undefined> {
  const reader = await openTree(directory)
  const options = {
    ...(latest === undefined ? {} : { latest }),
    ...(onWarning === undefined ? {} : { onWarning }),
  }
  try {
    yield* writeLayer(withContent(reader, treeEntries(reader, options), onWarning))
  } finally {
    await reader.close()
  }
}
