import { describe, expect, it } from 'vitest'
import { nextLink } from '../../src/distribution/paging.ts'
import { LimitError, ProtocolError } from '../../src/errors.ts'
import { all } from './support/images.ts'
import { against } from './support/scripted-server.ts'

describe('a list in pages', () => {
  it('ends where there is no link, not where a page is short or empty', async () => {
    const pages = ['["a"]', '[]', 'null', '["b","c"]']
    await against(
      (_, response, count) => {
        const link = count < pages.length ? { link: `</v2/app/tags/list?n=2&last=${count}>; rel="next"` } : {}
        response.writeHead(200, link).end(`{"name":"app","tags":${pages[count - 1]}}`)
      },
      async (repository, server) => {
        expect(await all(repository.tags({ pageSize: 2 }))).toEqual(['a', 'b', 'c'])
        expect(server.seen.map(({ url }) => url)).toEqual([
          '/v2/app/tags/list?n=2',
          ...[1, 2, 3].map((last) => `/v2/app/tags/list?n=2&last=${last}`),
        ])
      },
    )
  })

  it('is not read further than it is asked for', async () => {
    await against(
      (_, response, count) => {
        response.writeHead(200, { link: `<?page=${count}>; rel=next` }).end(`{"tags":["t${count}"]}`)
      },
      async (repository, server) => {
        for await (const tag of repository.tags()) if (tag === 't3') break
        expect(server.seen).toHaveLength(3)
      },
    )
  })

  it('that links in a circle is an error', async () => {
    await against(
      (_, response, count) => {
        response.writeHead(200, { link: `<?page=${count % 3}>; rel="next"` }).end('{"tags":["a"]}')
      },
      async (repository, server) => {
        await expect(all(repository.tags())).rejects.toThrow(/read before/)
        expect(server.seen.length).toBeLessThan(6)
      },
    )
  })

  it('that links to another host, or to what is no URL, is an error', async () => {
    for (const link of [
      '<http://127.0.0.1:1/v2/app/tags/list>; rel="next"',
      '<ftp://x/>; rel="next"',
      '<http://>; rel=next',
    ]) {
      await against(
        (_, response) => void response.writeHead(200, { link }).end('{"tags":[]}'),
        async (repository) => {
          await expect(all(repository.tags())).rejects.toThrow(ProtocolError)
        },
      )
    }
  })

  it('whose page is too large, is no JSON, or has entries that are no names is an error', async () => {
    const bodies = [
      'x'.repeat(9e6),
      'no',
      '{"tags":"a"}',
      '{"tags":["../../etc"]}',
      '{"tags":[1]}',
      '{}',
      '{"tags":[],"tags":[]}',
    ]
    for (const body of bodies) {
      await against(
        (_, response) => void response.end(body),
        async (repository) => {
          const error = await all(repository.tags()).catch((e: unknown) => e)
          expect(error).toMatchObject({ code: expect.stringMatching(/^ERR_OCI_(LIMIT|SPEC|PROTOCOL)$/) })
          if (body.length > 1e6) expect(error).toBeInstanceOf(LimitError)
        },
      )
    }
  })

  it('is found in links of any spelling', () => {
    expect(nextLink('<a>; rel="next"')).toBe('a')
    expect(nextLink('<a>;rel=next')).toBe('a')
    expect(nextLink('<p>; rel="prev", <b?x=1,2>; title="x"; rel="foo next"')).toBe('b?x=1,2')
    expect(nextLink('<a>; REL="NEXT"')).toBe('a')
    expect(nextLink('<a>; rel="last"')).toBeUndefined()
    expect(nextLink('')).toBeUndefined()
  })
})
