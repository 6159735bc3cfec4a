import { randomBytes, randomInt } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { digestOf } from '../../src/image/digest.ts'
import { createRegistryHandler } from '../../src/registry/index.ts'
import { Client, storages } from './support.ts'

describe.each(storages)('many clients at once with $kind storage', ({ open }) => {
  it('push, mount, read and delete the same blobs, and never see a wrong byte or a 5xx', async () => {
    const place = await open()
    const failures: unknown[] = []
    const handler = createRegistryHandler({ storage: place.storage, onError: (error) => failures.push(error) })
    const client = new Client(handler)
    const blobs = Array.from({ length: 3 }, () => randomBytes(50_000))
    const names = ['one', 'two/three', 'two']
    const pick = <T>(list: readonly T[]): T => list[randomInt(list.length)] as T

    const act = async (): Promise<void> => {
      const blob = pick(blobs)
      const digest = digestOf(blob)
      const name = pick(names)
      const what = randomInt(4)
      if (what === 0) await client.push(name, blob)
      if (what === 1) await client.send('DELETE', `/v2/${name}/blobs/${digest}`)
      if (what === 2) {
        const mount = await client.send('POST', `/v2/${name}/blobs/uploads/?mount=${digest}&from=${pick(names)}`)
        if (mount.status === 202) await client.send('DELETE', mount.headers.get('location') ?? '')
      }
      if (what === 3) {
        const response = await client.send('GET', `/v2/${name}/blobs/${digest}`)
        const content = Buffer.from(await response.arrayBuffer())
        if (response.status === 200) expect(content.equals(blob)).toBe(true)
        else expect(response.status).toBe(404)
      }
    }
    await Promise.all(
      Array.from({ length: 8 }, async () => {
        for (let i = 0; i < 60; i += 1) await act()
      }),
    )
    expect(failures).toEqual([])
    await place.remove()
  })

  it('push and delete tags and manifests, and every tag that is listed leads to its manifest', async () => {
    const place = await open()
    const client = new Client(createRegistryHandler({ storage: place.storage }))
    const images = await Promise.all(['a', 'b', 'c'].map((tag) => client.pushImage('tags', tag)))
    await Promise.all(
      Array.from({ length: 60 }, async (_, i) => {
        const image = images[i % 3]
        if (image === undefined) return
        if (i % 4 === 0) await client.send('DELETE', `/v2/tags/manifests/${image.digest}`)
        else await client.putManifest('tags', `t${i % 7}`, image)
      }),
    )
    const { tags }: { tags: string[] } = JSON.parse(await (await client.send('GET', '/v2/tags/tags/list')).text())
    for (const tag of tags) expect((await client.send('GET', `/v2/tags/manifests/${tag}`)).status).toBe(200)
    await place.remove()
  })
})
