import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile, stat, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { readAll } from '../../src/content/verify.ts'
import { anonymous, createRegistryClient, download, type FetchLike } from '../../src/distribution/index.ts'
import { DigestMismatchError, InvalidArgumentError, NotFoundError, SizeMismatchError } from '../../src/errors.ts'
import { mediaType } from '../../src/image/media-type.ts'
import { createRegistryServer } from '../../src/registry/index.ts'
import { all, content, randomLayer, temporaryDirectory } from './support/images.ts'
import { against, drop, serve, startServer } from './support/scripted-server.ts'

const layer = randomLayer(1_000_000)
const ranges = { parallel: 4, size: 100_000 }

/** Serves a part as it is asked for; at most `limit` bytes of it. */
function servePart(request: IncomingMessage, response: ServerResponse, limit = Number.POSITIVE_INFINITY): void {
  const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? []
  if (from === undefined) return void response.end(layer.bytes)
  const end = to === '' ? layer.bytes.byteLength : Number(to) + 1
  const part = layer.bytes.subarray(Number(from), end)
  response.writeHead(206, {
    'content-range': `bytes ${from}-${end - 1}/${layer.bytes.byteLength}`,
    'content-length': part.byteLength,
  })
  if (part.byteLength <= limit) response.end(part)
  else response.write(part.subarray(0, limit), () => response.socket?.destroy())
}

describe('a large blob in parallel parts', () => {
  it('comes in order, from several requests at the same time, each byte once', async () => {
    let [open, most] = [0, 0]
    await against(
      (request, response) => {
        most = Math.max(most, ++open)
        response.once('close', () => open--)
        // The answers come in another order than the requests.
        setTimeout(() => servePart(request, response), 5 + 10 * Math.random())
      },
      async (repository, server) => {
        expect(Buffer.compare(await readAll(repository, layer.descriptor, 2e6), layer.bytes)).toBe(0)
        expect(server.seen.map(({ headers }) => headers.range).sort()).toEqual(
          Array.from({ length: 10 }, (_, i) => `bytes=${i * 100_000}-${i === 9 ? '' : (i + 1) * 100_000 - 1}`).sort(),
        )
        expect(most).toBeGreaterThan(1)
        expect(most).toBeLessThanOrEqual(4)
      },
      { ranges },
    )
  })

  it('survives that parts break off', async () => {
    await against(
      (request, response, count) => servePart(request, response, count % 3 === 0 ? 40_000 : undefined),
      async (repository) => {
        expect(Buffer.compare(await readAll(repository, layer.descriptor, 2e6), layer.bytes)).toBe(0)
      },
      { ranges },
    )
  })

  it('comes by one connection where the server knows no ranges', async () => {
    await against(
      (_, response) => void response.end(layer.bytes),
      async (repository, server) => {
        expect(Buffer.compare(await readAll(repository, layer.descriptor, 2e6), layer.bytes)).toBe(0)
        expect(server.seen).toHaveLength(2)
      },
      { ranges },
    )
  })

  it('fails with the error of a part, and all others end', async () => {
    await against(
      (request, response) => {
        if (request.headers.range?.startsWith('bytes=300000-')) response.writeHead(403).end()
        else servePart(request, response)
      },
      async (repository) => {
        await expect(readAll(repository, layer.descriptor, 2e6)).rejects.toMatchObject({ status: 403 })
      },
      { ranges },
    )
  })

  it('ends when its reader does', async () => {
    const reason = new Error('enough')
    await against(
      (request, response, count) => (count < 3 ? servePart(request, response) : undefined),
      async (repository) => {
        const controller = new AbortController()
        const stream = await repository.fetch(layer.descriptor, { signal: controller.signal })
        const read = all(stream)
        setTimeout(() => controller.abort(reason), 50)
        await expect(read).rejects.toBe(reason)
      },
      { ranges },
    )
  })

  it('may start in the middle, and comes from both registries of ours', async () => {
    await using registry = await createRegistryServer()
    const client = createRegistryClient({ credentials: anonymous, ranges })
    const repository = client.repository(`${registry.host}/app`)
    await repository.push(layer.descriptor, layer.bytes)
    const stream = await repository.fetch(layer.descriptor, { offset: 123_456 })
    expect(Buffer.compare(Buffer.concat(await stream.toArray()), layer.bytes.subarray(123_456))).toBe(0)
  })

  it('has options that make sense', () => {
    for (const wrong of [{ parallel: 0 }, { parallel: 17 }, { size: 0 }]) {
      expect(() => createRegistryClient({ ranges: wrong })).toThrow(InvalidArgumentError)
    }
  })
})

describe('a foreign layer', () => {
  const foreign = content(mediaType.dockerForeignLayer, layer.bytes)

  it('comes from where its descriptor says when the registry has not got it, without credentials', async () => {
    const headers: unknown[] = []
    await using elsewhere = await startServer((request, response) => {
      headers.push(request.headers.authorization)
      if (headers.length === 1) drop(request, response, layer.bytes, 400_000)
      else serve(request, response, layer.bytes)
    })
    await against(
      (request, response) => {
        const known = request.headers.authorization !== undefined
        response.writeHead(known ? 404 : 401, known ? {} : { 'www-authenticate': 'Basic realm="x"' }).end()
      },
      async (repository) => {
        const urls = ['ftp://no/', 'nonsense', `http://${elsewhere.host}/blob`]
        expect((await readAll(repository, { ...foreign.descriptor, urls }, 2e6)).byteLength).toBe(1_000_000)
        expect(headers).toEqual([undefined, undefined])
        await expect(readAll(repository, foreign.descriptor, 2e6)).rejects.toThrow(NotFoundError)
        await expect(
          readAll(repository, { ...foreign.descriptor, urls: ['http://169.254.169.254/x'] }, 2e6),
        ).rejects.toThrow(NotFoundError)
      },
      { credentials: async () => ({ kind: 'password', username: 'me', password: 'secret' }) },
    )
  })
})

describe('a download to a file', () => {
  const children: ChildProcess[] = []
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
  })

  it('goes on where a killed process broke off', async () => {
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'blob')
    let hang = true
    await against(
      (request, response) => {
        if (!hang) return serve(request, response, layer.bytes)
        response.writeHead(200, { 'content-length': layer.bytes.byteLength })
        response.write(layer.bytes.subarray(0, 600_000))
      },
      async (repository, server) => {
        const code = `
          const { download, openRepository } = await import(${JSON.stringify(new URL('../../src/distribution/index.ts', import.meta.url).href)})
          await download(openRepository(${JSON.stringify(`${server.host}/app`)}), ${JSON.stringify(layer.descriptor)}, ${JSON.stringify(path)})`
        const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', code], {
          env: { ...process.env, DOCKER_CONFIG: directory.path },
        })
        children.push(child)
        const size = async (): Promise<number> =>
          stat(`${path}.partial`).then(
            (found) => found.size,
            () => 0,
          )
        while ((await size()) < 600_000) await new Promise((resolve) => setTimeout(resolve, 10))
        const exited = once(child, 'exit')
        child.kill('SIGKILL')
        await exited
        hang = false
        await download(repository, layer.descriptor, path)
        expect(server.seen.at(-1)?.headers.range).toBe('bytes=600000-')
      },
    )
    expect(Buffer.compare(await readFile(path), layer.bytes)).toBe(0)
    expect(existsSync(`${path}.partial`)).toBe(false)
  })

  it('does not trust what it finds', async () => {
    await using directory = await temporaryDirectory()
    for (const found of [Buffer.alloc(500_000), Buffer.alloc(1_000_000), Buffer.alloc(2_000_000), layer.bytes]) {
      const path = join(directory.path, `blob-${found.byteLength}`)
      await writeFile(`${path}.partial`, found)
      await against(serveAll, async (repository) => {
        await download(repository, layer.descriptor, path)
      })
      expect(Buffer.compare(await readFile(path), layer.bytes)).toBe(0)
    }
  })

  it('leaves nothing of content that is not what was asked for', async () => {
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'blob')
    for (const [bytes, error] of [
      [Buffer.alloc(1_000_000), DigestMismatchError],
      [Buffer.alloc(10), SizeMismatchError],
    ] as const) {
      await against(
        (request, response) => serve(request, response, bytes),
        async (repository) => {
          await expect(download(repository, layer.descriptor, path)).rejects.toThrow(error)
        },
      )
      expect(existsSync(path) || existsSync(`${path}.partial`)).toBe(false)
    }
  })
})

function serveAll(request: IncomingMessage, response: ServerResponse): void {
  serve(request, response, layer.bytes)
}

describe('search', () => {
  it('asks Docker Hub by its own API, all pages, without credentials', async () => {
    const seen: string[] = []
    const fetch: FetchLike = async (url, { headers }) => {
      seen.push(`${url} ${headers.authorization ?? '-'}`)
      const results = url.endsWith('page=1')
        ? [{ name: 'redis', description: 'x'.repeat(5000), star_count: 7, is_official: true }, { no: 'name' }]
        : [{ name: 'me/redis' }]
      return new Response(JSON.stringify({ num_pages: 2, results })) as Awaited<ReturnType<FetchLike>>
    }
    const client = createRegistryClient({ fetch, credentials: anonymous })
    expect(await all(client.search('redis cache'))).toEqual([
      { name: 'docker.io/library/redis', description: 'x'.repeat(1000), stars: 7, official: true },
      { name: 'docker.io/me/redis', description: '', stars: 0, official: false },
    ])
    const url = 'https://index.docker.io/v1/search?q=redis+cache&n=100&page='
    expect(seen).toEqual([`${url}1 -`, `${url}2 -`])
  })

  it('looks through the names of any other registry', async () => {
    await using registry = await createRegistryServer()
    const client = createRegistryClient({ credentials: anonymous })
    for (const name of ['team/redis', 'team/app']) {
      await client.repository(`${registry.host}/${name}`).push(layer.descriptor, layer.bytes)
      const manifest = content(
        mediaType.ociIndex,
        `{"schemaVersion":2,"mediaType":"${mediaType.ociIndex}","manifests":[]}`,
      )
      await client.repository(`${registry.host}/${name}`).push(manifest.descriptor, manifest.bytes, { tags: ['1'] })
    }
    const found = await all(client.search('Redis', { registry: registry.host }))
    expect(found.map(({ name }) => name)).toEqual([`${registry.host}/team/redis`])
  })
})
