import { randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { MemoryStore } from '../../src/content/memory.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { putImage, putIndex, RecordingStore } from './support.ts'

describe('copy', () => {
  it('runs as many transfers at once as it may, and no more', async () => {
    for (const concurrency of [1, 3]) {
      const source = new MemoryStore()
      const { manifest } = await putImage(source, { layers: Array.from({ length: 12 }, () => randomBytes(5000)) })
      await source.tag(manifest, 'x')
      const target = new RecordingStore()
      // Each push gives the others time to begin.
      target.before = async () => {
        for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve))
      }
      await copy(source, 'x', target, { concurrency })
      expect(target.mostActive).toBe(concurrency)
    }
  })

  it('looks at manifests and asks what is there while large blobs are under way', async () => {
    const source = new RecordingStore()
    const first = await putImage(source, { inIndex: true })
    const last = await putImage(source, { inIndex: true, layers: [randomBytes(9)] })
    const inner = await putIndex(source, [await putIndex(source, [last.manifest])])
    await source.tag(await putIndex(source, [first.manifest, inner]), 'x')
    const target = new RecordingStore()
    target.before = async (_verb, { mediaType: type }) => {
      if (type !== mediaType.ociLayerGzip) return
      while (!source.fetched.includes(last.manifest.digest)) await new Promise((resolve) => setImmediate(resolve))
    }
    await copy(source, 'x', target, { concurrency: 1 })
    expect(await target.exists(last.manifest)).toBe(true)
  })
})
