import { once } from 'node:events'
import { type AddressInfo, connect, createServer, type Socket } from 'node:net'
import { describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { anonymous, openRepository } from '../../src/distribution/index.ts'
import { createRegistryServer } from '../../src/registry/index.ts'
import { image, randomLayer, temporaryDirectory } from './support/images.ts'

/** Passes connections on to `port`, and cuts each one when `limit` bytes have come back on it. */
async function startCutter(
  port: number,
  limit: number,
): Promise<AsyncDisposable & { readonly host: string; bytes: number; cuts: number }> {
  const sockets = new Set<Socket>()
  const server = createServer((client) => {
    const target = connect(port, '127.0.0.1')
    let seen = 0
    for (const socket of [client, target]) {
      sockets.add(socket)
      socket.on('error', () => {})
    }
    client.pipe(target)
    target.on('data', (chunk: Buffer) => {
      const rest = chunk.subarray(0, limit - seen)
      seen += rest.byteLength
      state.bytes += rest.byteLength
      if (client.destroyed) return
      if (seen < limit) {
        if (!client.write(rest)) {
          target.pause()
          client.once('drain', () => target.resume())
        }
        return
      }
      state.cuts++
      client.end(rest)
      target.destroy()
    })
    target.once('end', () => client.end())
    client.once('close', () => target.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const state = {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    bytes: 0,
    cuts: 0,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
  return state
}

describe('a connection that breaks after each 10 MB', () => {
  it('costs a pull no more than 5 % of extra traffic', async () => {
    await using registry = await createRegistryServer()
    const layers = [randomLayer(64_000_000), randomLayer(23_000_000), randomLayer(5_000_000)]
    const { config, manifest } = image(...layers)
    const direct = openRepository(`${registry.host}/app`, { credentials: anonymous })
    for (const { descriptor, bytes } of [...layers, config]) await direct.push(descriptor, bytes)
    await direct.push(manifest.descriptor, manifest.bytes, { tags: ['1'] })
    await using cutter = await startCutter(registry.port, 10_000_000)
    await using directory = await temporaryDirectory()
    const layout = await LayoutStore.create(directory.path, { sync: false })
    const through = openRepository(`${cutter.host}/app`, { credentials: anonymous, retry: { minDelay: 1 } })
    await copy(through, '1', layout)
    for (const { descriptor } of layers) expect(await layout.exists(descriptor)).toBe(true)
    const size = 92_000_000
    expect(cutter.cuts).toBeGreaterThanOrEqual(8)
    expect(cutter.bytes).toBeGreaterThan(size)
    expect(cutter.bytes / size).toBeLessThan(1.05)
  })
})
