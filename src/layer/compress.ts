import { pipeline, Readable, type Transform } from 'node:stream'
import * as zlib from 'node:zlib'
import { InvalidArgumentError, UnsupportedError } from '../errors.ts'
import { createDigester, type Digest } from '../image/digest.ts'
import { mediaType } from '../image/media-type.ts'
import { chunkSize } from '../internal/feeder.ts'
import type { Compression } from './decompress.ts'

/** How a layer is compressed. */
export interface CompressOptions {
  /** Default `gzip`, which every tool reads; `zstd` takes Node 22.15 or newer, and is smaller and quicker. */
  readonly compression?: Compression | undefined
  /** 0 to 9 for gzip, 1 to 22 for zstd. Default 6 and 3, as the programs of those names have it. */
  readonly level?: number | undefined
}

/** A layer on its way to where it is stored. */
export interface PackedLayer {
  /** Media type of the blob. */
  readonly mediaType: string
  /** The blob. */
  readonly blob: Readable
  /** What the layer is without compression; known when the blob has been read to its end. */
  summary(): { readonly diffId: Digest; readonly size: number }
}

const types = { gzip: mediaType.ociLayerGzip, zstd: mediaType.ociLayerZstd, none: mediaType.ociLayer } as const

/**
 * Compresses a tar archive to the blob of a layer, and hashes it on the way. With the same Node the same archive makes the same
 * blob: the header of gzip has no name and no time.
 * @throws UnsupportedError for zstd on a Node without it.
 */
export function packLayer(archive: AsyncIterable<Buffer>, options: CompressOptions = {}): PackedLayer {
  const { compression = 'gzip', level } = options
  const encoder = encoderOf(compression, level)
  const digester = createDigester()
  let size = 0
  let diffId: Digest | undefined
  const hashed = async function* (): AsyncGenerator<Buffer, void, undefined> {
    for await (const chunk of archive) {
      digester.update(chunk)
      size += chunk.length
      yield chunk
    }
    diffId = digester.digest()
  }
  const source = Readable.from(hashed(), { objectMode: false })
  // The callback is there so that an error is not unhandled: whoever reads the blob gets it.
  const blob = encoder === undefined ? source : pipeline(source, encoder, () => {})
  return {
    mediaType: types[compression],
    blob,
    summary() {
      if (diffId === undefined) throw new InvalidArgumentError('the layer has not been read to its end')
      return { diffId, size }
    },
  }
}

function encoderOf(compression: Compression, level: number | undefined): Transform | undefined {
  if (compression === 'none') return undefined
  if (compression === 'gzip') return zlib.createGzip({ level: level ?? 6, chunkSize })
  if (typeof zlib.createZstdCompress !== 'function') {
    throw new UnsupportedError('zstd', `Node ${process.versions.node} has no zstd compressor`, {
      hint: 'Use Node 22.15 or newer, or gzip.',
    })
  }
  const params = { [zlib.constants.ZSTD_c_compressionLevel]: level ?? 3 }
  return zlib.createZstdCompress({ params, chunkSize })
}
