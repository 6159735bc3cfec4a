import { describe, expect, it } from 'vitest'
import { descriptorOf, mediaType } from '../../src/image/index.ts'
import { EarlySync } from '../../src/store/early-sync.ts'

const MiB = 2 ** 20
const [one, other] = ['one', 'other'].map((text) => descriptorOf(mediaType.ociLayer, Buffer.from(text)))

describe('layers that are being unpacked', () => {
  it('are put on the disk whenever there is enough of them, and once at a time', async () => {
    const syncs: (() => void)[] = []
    const early = new EarlySync(() => new Promise((resolve) => syncs.push(resolve)))
    const note = (layer: typeof one, size: number): void =>
      early.note({ kind: 'progress', layer: layer as NonNullable<typeof one>, compressed: 0, size, entries: 0 })
    note(one, 30 * MiB)
    note(other, 10 * MiB)
    expect(syncs).toHaveLength(0)
    note(other, 20 * MiB)
    expect(syncs).toHaveLength(1)
    note(one, 200 * MiB)
    expect(syncs).toHaveLength(1)
    syncs[0]?.()
    await early.end()
    note(one, 201 * MiB)
    expect(syncs).toHaveLength(2)
    syncs[1]?.()
    await early.end()
  })

  it('are complete, though putting them on the disk early has failed', async () => {
    const early = new EarlySync(() => Promise.reject(new Error('EIO')))
    early.note({ kind: 'progress', layer: one as NonNullable<typeof one>, compressed: 0, size: 100 * MiB, entries: 0 })
    await expect(early.end()).resolves.toBeUndefined()
  })
})
