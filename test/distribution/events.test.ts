import { describe, expect, it } from 'vitest'
import { readAll } from '../../src/content/verify.ts'
import { parseWarnings } from '../../src/distribution/events.ts'
import type { RegistryEvent } from '../../src/distribution/index.ts'
import { randomLayer } from './support/images.ts'
import { against, drop, serve } from './support/scripted-server.ts'

const layer = randomLayer(1_000_000)

describe('events', () => {
  it('tell what a registry warns of, each text once, and what is left of a quota', async () => {
    const events: RegistryEvent[] = []
    await against(
      (request, response) => {
        response.setHeader('warning', '299 - "going away", 199 - "other", 299 - "be \\"quick\\""')
        response.setHeader('ratelimit-limit', '100;w=21600')
        response.setHeader('ratelimit-remaining', '76;w=21600')
        serve(request, response, layer.bytes)
      },
      async (repository, { host }) => {
        for (let i = 0; i < 2; i++) await readAll(repository, layer.descriptor, 1e6)
        expect(events.filter(({ kind }) => kind === 'warning')).toEqual([
          { kind: 'warning', registry: host, text: 'going away' },
          { kind: 'warning', registry: host, text: 'be "quick"' },
        ])
        expect(events.filter(({ kind }) => kind === 'rate-limit')[0]).toEqual({
          kind: 'rate-limit',
          registry: host,
          limit: 100,
          remaining: 76,
          window: 21600,
        })
      },
      { onEvent: (event) => events.push(event) },
    )
  })

  it('tell of requests that are sent again, and of content that is resumed', async () => {
    const events: RegistryEvent[] = []
    await against(
      (request, response, count) => {
        if (count === 1) response.writeHead(503).end()
        else if (count === 2) drop(request, response, layer.bytes, 400_000)
        else serve(request, response, layer.bytes)
      },
      async (repository) => {
        await readAll(repository, layer.descriptor, 1e6)
        expect(events).toMatchObject([
          { kind: 'retry', subject: expect.stringContaining(layer.descriptor.digest), error: { status: 503 } },
          { kind: 'resume', subject: layer.descriptor.digest, position: expect.any(Number) },
        ])
      },
      { onEvent: (event) => events.push(event) },
    )
  })

  it('may be answered with an error, which changes nothing', async () => {
    await against(
      (request, response) => {
        response.setHeader('warning', '299 - "x"')
        serve(request, response, layer.bytes)
      },
      async (repository) => {
        expect((await readAll(repository, layer.descriptor, 1e6)).byteLength).toBe(1_000_000)
      },
      {
        onEvent: () => {
          throw new Error('no')
        },
      },
    )
  })
})

describe('a warning', () => {
  it('has code 299 and agent -, or is none', () => {
    expect(parseWarnings('299 - "a"')).toEqual(['a'])
    expect(parseWarnings('299 agent "a", 199 - "b", 299 - unquoted')).toEqual([])
    expect(parseWarnings('299 - "a, 299 - "')).toEqual(['a, 299 - '])
  })

  it('brings no control characters to a terminal, and no flood', () => {
    expect(parseWarnings('299 - "\u001b[2Jx\u009b"')).toEqual(['\\u001b[2Jx\\u009b'])
    expect(parseWarnings(`299 - "${'x'.repeat(5000)}"`)[0]).toHaveLength(1000)
    expect(parseWarnings(Array.from({ length: 9999 }, () => '299 - "x"').join(', ')).length).toBeLessThan(2000)
  })
})
