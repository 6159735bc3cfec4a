import type { IncomingMessage, ServerResponse } from 'node:http'
import { describe, expect, it } from 'vitest'
import { readAll } from '../../../src/content/verify.ts'
import { anonymous, createRegistryClient, type RegistryEvent } from '../../../src/distribution/index.ts'
import { randomLayer } from '../support/images.ts'
import { type Handler, type ScriptedServer, startServer } from '../support/scripted-server.ts'

const layer = randomLayer(4_000_000)
const size = 200_000
const parts = layer.bytes.byteLength / size

/** Serves the part that is asked for; of it, at most `limit` bytes. */
function servePart(request: IncomingMessage, response: ServerResponse, limit = size): void {
  const [, from = '0', to = ''] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  const end = to === '' ? layer.bytes.byteLength : Number(to) + 1
  const part = layer.bytes.subarray(Number(from), end)
  response.writeHead(206, {
    'content-range': `bytes ${from}-${end - 1}/${layer.bytes.byteLength}`,
    'content-length': part.byteLength,
  })
  if (part.byteLength <= limit) response.end(part)
  else response.write(part.subarray(0, limit), () => response.socket?.destroy())
}

/** Reads the layer in parts from mirrors that answer so. */
async function read(
  ...handlers: readonly Handler[]
): Promise<{ readonly counts: readonly number[]; readonly failed: readonly string[] }> {
  await using origin = await startServer((request, response) => servePart(request, response))
  const mirrors: ScriptedServer[] = []
  for (const handler of handlers) mirrors.push(await startServer(handler))
  const events: RegistryEvent[] = []
  try {
    const client = createRegistryClient({
      credentials: anonymous,
      retry: { attempts: 3, minDelay: 1, maxDelay: 2 },
      ranges: { parallel: 6, size },
      registries: [{ prefix: origin.host, mirrors: mirrors.map(({ host }) => ({ location: host })) }],
      onEvent: (event) => events.push(event),
    })
    const bytes = await readAll(client.repository(`${origin.host}/app`), layer.descriptor, 5e6)
    expect(Buffer.compare(bytes, layer.bytes)).toBe(0)
    const failed = events.flatMap((event) => (event.kind === 'mirror-failed' ? [event.mirror] : []))
    const names = mirrors.map(({ host }) => `${host}/app`)
    return {
      counts: [...mirrors, origin].map(({ seen }) => seen.length),
      failed: failed.map((name) => String(names.indexOf(name))),
    }
  } finally {
    for (const mirror of mirrors) await mirror[Symbol.asyncDispose]()
  }
}

const good: Handler = (request, response) => servePart(request, response)

describe('the parts of one blob', () => {
  it('come from all mirrors at the same time, each once, and none from the registry', async () => {
    const { counts, failed } = await read(good, good, good)
    expect(counts.reduce((sum, count) => sum + count, 0)).toBe(parts)
    for (const count of counts.slice(0, 3)) expect(count).toBeGreaterThanOrEqual(3)
    expect([counts[3], failed]).toEqual([0, []])
  })

  it('come less often from a mirror that is slow', async () => {
    const slow: Handler = (request, response) => void setTimeout(() => servePart(request, response), 300)
    const { counts } = await read(slow, good)
    expect(counts[0]).toBeLessThan(counts[1] ?? 0)
  })

  it('come from the others when a mirror fails, and from the registry when all do', async () => {
    const gone: Handler = (_, response) => void response.writeHead(404).end()
    const cutting: Handler = (request, response) => servePart(request, response, 1)
    let served = 0
    const dying: Handler = (request, response) => {
      if (++served > 2) response.socket?.destroy()
      else servePart(request, response)
    }
    const some = await read(good, gone, cutting, dying)
    // Whether the fourth is asked often enough to fail depends on how the others do.
    expect(some.failed).toEqual(expect.arrayContaining(['1', '2']))
    expect(some.failed).not.toContain('0')
    expect(some.counts.at(-1)).toBe(0)
    served = 0
    const none = await read(gone, dying)
    expect([...none.failed].sort()).toEqual(['0', '1'])
    expect(none.counts.at(-1)).toBeGreaterThanOrEqual(parts - 2)
  })

  it('never come from a mirror that sends the whole for each of them', async () => {
    const whole: Handler = (_, response) => void response.end(layer.bytes)
    const { counts, failed } = await read(good, whole)
    expect(failed).toEqual(['1'])
    expect(counts[1]).toBeLessThanOrEqual(6)
  })
})
