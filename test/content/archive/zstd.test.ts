import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as zlib from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { openArchive } from '../../../src/content/archive/open.ts'
import { copy } from '../../../src/content/copy.ts'
import { MemoryStore } from '../../../src/content/memory.ts'
import { ArchiveError, UnsupportedError } from '../../../src/errors.ts'
import { putImage, temporaryDirectory } from '../support.ts'
import { load, saved, stream } from './support.ts'

const hasZstd = typeof zlib.createZstdDecompress === 'function'
const version = `Node ${process.versions.node} has no zstd`

/** An archive of one image `x`, and its manifest's digest. */
async function archive() {
  const store = new MemoryStore()
  const { manifest } = await putImage(store)
  await store.tag(manifest, 'x')
  const { bytes } = await saved([{ source: store, reference: 'x', as: 'example.com/x:1' }])
  return { bytes, digest: manifest.digest }
}

/** A frame without content, which readers skip; compressors that work in parallel begin with one. */
const skippable = Buffer.from('502a4d1804000000abcdef01', 'hex')

/** A frame that wants a window of 256 MiB. */
const wide = Buffer.from('28b52ffd0090010000', 'hex')

describe.skipIf(!hasZstd)(`an archive that is compressed with zstd${hasZstd ? '' : ` (skipped: ${version})`}`, () => {
  it.each(['a stream', 'a file', 'loadArchive'])('may have any number of frames: %s', async (how) => {
    const { bytes, digest } = await archive()
    const parts = [bytes.subarray(0, 1000), bytes.subarray(1000, 9000), bytes.subarray(9000)]
    const frames = Buffer.concat([skippable, ...parts.flatMap((part) => [zlib.zstdCompressSync(part), skippable])])
    if (how === 'loadArchive') {
      expect((await load(frames)).images).toMatchObject([{ descriptor: { digest } }])
      return
    }
    const { path, remove } = await temporaryDirectory()
    try {
      const file = join(path, 'x.tar.zst')
      await writeFile(file, frames)
      await using opened = await openArchive(how === 'a file' ? file : stream(frames, 777))
      const target = new MemoryStore()
      expect(await copy(opened, 'example.com/x:1', target)).toMatchObject({ digest })
    } finally {
      await remove()
    }
  })

  it('is refused when it is damaged, or wants more memory than it may', async () => {
    const { bytes } = await archive()
    const compressed = zlib.zstdCompressSync(bytes)
    for (const wrong of [compressed.subarray(0, -5), compressed.subarray(0, 200), wide]) {
      await expect(load(wrong)).rejects.toThrow(ArchiveError)
      await expect(openArchive(stream(wrong))).rejects.toThrow(ArchiveError)
    }
  })
})

describe.skipIf(hasZstd)(`zstd${hasZstd ? ' (skipped: this Node has it)' : ''}`, () => {
  it('is refused with a word on what to do', async () => {
    await expect(load(skippable)).rejects.toThrow(UnsupportedError)
    await expect(openArchive(stream(wide))).rejects.toThrow(/Use Node 22.15 or newer/)
  })
})
