import { describe, expect, it } from 'vitest'
import { anonymous, type openRepository } from '../../src/distribution/index.ts'
import { referrersTag } from '../../src/distribution/referrers-tag.ts'
import { ConflictError, ProtocolError } from '../../src/errors.ts'
import type { Digest } from '../../src/image/digest.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { all, type Content, content, image } from './support/images.ts'
import { against, type Handler } from './support/scripted-server.ts'

const { manifest: subject, config } = image()
const artifact = content(
  mediaType.ociManifest,
  JSON.stringify({
    schemaVersion: 2,
    mediaType: mediaType.ociManifest,
    config: config.descriptor,
    layers: [],
    subject: subject.descriptor,
    annotations: { a: 'b' },
  }),
)
const entry = { ...artifact.descriptor, artifactType: mediaType.ociConfig, annotations: { a: 'b' } }
const tag = referrersTag(subject.descriptor.digest)
const indexOf = (...manifests: readonly unknown[]): string =>
  JSON.stringify({ schemaVersion: 2, mediaType: mediaType.ociIndex, manifests })

/** A registry without the referrers API, whose tag for referrers holds `stored`. */
function tagRegistry(state: {
  stored: string | undefined
  type?: string
  beforePut?: () => void
  puts?: string[]
}): Handler {
  return (request, response) => {
    const { method, url = '' } = request
    if (url.includes('/referrers/')) return void response.writeHead(404).end()
    if (method === 'GET' && state.stored === undefined) return void response.writeHead(404).end()
    if (method === 'GET') {
      const headers = { 'content-type': state.type ?? mediaType.ociIndex, etag: `"${state.stored?.length}"` }
      return void response.writeHead(200, headers).end(state.stored)
    }
    let body = ''
    request.setEncoding('utf8').on('data', (text) => {
      body += text
    })
    request.once('end', () => {
      if (!url.endsWith(tag)) return void response.writeHead(201).end()
      state.beforePut?.()
      const match = request.headers['if-match']
      if (match !== undefined && match !== `"${state.stored?.length}"`) return void response.writeHead(412).end()
      state.stored = body
      state.puts?.push(body)
      response.writeHead(201).end()
    })
  }
}

const push = (repository: ReturnType<typeof openRepository>, { descriptor, bytes }: Content): Promise<void> =>
  repository.push(descriptor, bytes)

describe('the tag for referrers', () => {
  it('has the algorithm cut to 32 characters and the rest to 64', () => {
    expect(referrersTag(`sha256:${'a'.repeat(64)}`)).toBe(`sha256-${'a'.repeat(64)}`)
    expect(referrersTag(`sha512:${'b'.repeat(128)}`)).toBe(`sha512-${'b'.repeat(64)}`)
    const long: Digest = `${'c'.repeat(40)}:d=e`
    expect(referrersTag(long)).toBe(`${'c'.repeat(32)}-d-e`)
    expect(referrersTag('sha256+b64u:xyz')).toBe('sha256-b64u-xyz')
  })
})

describe('pushing a manifest with a subject to a registry without referrers API', () => {
  it('makes the list, with type and annotations, and keeps what is in it', async () => {
    const other = { ...config.descriptor, mediaType: mediaType.ociManifest, artifactType: 'x/y' }
    for (const before of [undefined, indexOf(other)]) {
      const state = { stored: before }
      await against(tagRegistry(state), async (repository) => {
        await push(repository, artifact)
        expect(JSON.parse(String(state.stored)).manifests).toEqual([...(before === undefined ? [] : [other]), entry])
        expect(await all(repository.referrers(subject.descriptor))).toContainEqual(entry)
      })
    }
  })

  it('writes nothing when it is listed', async () => {
    const state = { stored: indexOf(entry), puts: [] }
    await against(tagRegistry(state), async (repository) => {
      await push(repository, artifact)
      expect(state.puts).toEqual([])
    })
  })

  it('loses nothing that another client writes in between', async () => {
    const other = { ...config.descriptor, mediaType: mediaType.ociManifest }
    let once = true
    const state = {
      stored: indexOf() as string | undefined,
      beforePut() {
        if (once) state.stored = indexOf(other)
        once = false
      },
    }
    await against(tagRegistry(state), async (repository) => {
      await push(repository, artifact)
      expect(JSON.parse(String(state.stored)).manifests).toEqual([other, entry])
    })
  })

  it('loses nothing when another client, which had read the list before, writes it back without it', async () => {
    const other = { ...config.descriptor, mediaType: mediaType.ociManifest }
    const state = { stored: indexOf() as string | undefined }
    const registry = tagRegistry(state)
    let once = true
    const late: Handler = (request, response, count) => {
      registry(request, response, count)
      if (!once || request.method !== 'GET' || !state.stored?.includes(entry.digest)) return
      once = false
      state.stored = indexOf(other)
    }
    await against(late, async (repository) => {
      await push(repository, artifact)
      expect(once).toBe(false)
      expect(JSON.parse(String(state.stored)).manifests).toEqual([other, entry])
    })
  })

  it('gives up when others change the list without end', async () => {
    const state = {
      stored: indexOf() as string | undefined,
      count: 0,
      beforePut() {
        state.stored = indexOf({ ...config.descriptor, annotations: { a: 'x'.repeat(state.count++) } })
      },
    }
    await against(tagRegistry(state), async (repository) => {
      await expect(push(repository, artifact)).rejects.toThrow(ConflictError)
    })
  })

  it('does not overwrite a tag that names the subject itself, or no index', async () => {
    const text = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
    for (const stored of [text(subject.bytes), text(artifact.bytes), '{"no":"manifest"}']) {
      const state = { stored, type: mediaType.ociManifest, puts: [] }
      await against(tagRegistry(state), async (repository) => {
        await expect(push(repository, artifact)).rejects.toThrow(ProtocolError)
        expect(state.puts).toEqual([])
        expect(await all(repository.referrers(subject.descriptor))).toEqual([])
      })
    }
  })
})

describe('pushing a manifest with a subject', () => {
  it('leaves the list to a registry that says so and has the API', async () => {
    await against(
      (request, response) => {
        request.resume()
        const headers = { 'oci-subject': subject.descriptor.digest, 'content-type': mediaType.ociIndex }
        if (request.method === 'PUT') response.writeHead(201, headers).end()
        else response.writeHead(200, headers).end(indexOf())
      },
      async (repository, server) => {
        await push(repository, artifact)
        await push(repository, artifact)
        expect(server.seen.map(({ method }) => method)).toEqual(['PUT', 'GET', 'PUT'])
      },
    )
  })

  it('does not believe a registry that says so and has no API', async () => {
    const state = { stored: undefined as string | undefined }
    const registry = tagRegistry(state)
    await against(
      (request, response, count) => {
        if (request.method === 'PUT') response.setHeader('oci-subject', subject.descriptor.digest)
        registry(request, response, count)
      },
      async (repository) => {
        await push(repository, artifact)
        expect(JSON.parse(String(state.stored)).manifests).toEqual([entry])
      },
    )
  })
})

describe('listing referrers', () => {
  it('follows the pages, filters what the registry has not, and gives each once', async () => {
    const wanted = { ...entry, artifactType: 'a/b' }
    const second = { ...config.descriptor, mediaType: mediaType.ociManifest, artifactType: 'a/b' }
    const pages = [indexOf(wanted, entry), indexOf(wanted), indexOf(second)]
    await against(
      (_, response, count) => {
        const link = count < pages.length ? { link: `<?page=${count}>; rel="next"` } : {}
        response.writeHead(200, { 'content-type': mediaType.ociIndex, ...link }).end(pages[count - 1])
      },
      async (repository, server) => {
        const found = await all(repository.referrers(subject.descriptor, { artifactType: 'a/b' }))
        expect(found).toEqual([wanted, second])
        expect(server.seen[0]?.url).toBe(`/v2/app/referrers/${subject.descriptor.digest}?artifactType=a%2Fb`)
      },
    )
  })

  it('takes the answer of a page for people for no API', async () => {
    await against(
      (request, response) => {
        if (!request.url?.includes('/referrers/')) return void response.writeHead(404).end()
        response.writeHead(200, { 'content-type': 'text/html' }).end('<html>')
      },
      async (repository) => {
        expect(await all(repository.referrers(subject.descriptor))).toEqual([])
      },
    )
  })

  it('tells that the registry is at fault, and does not say that there are none', async () => {
    await against(
      (_, response) => void response.writeHead(500).end(),
      async (repository) => {
        await expect(all(repository.referrers(subject.descriptor))).rejects.toMatchObject({ status: 500 })
      },
      { credentials: anonymous },
    )
  })
})
