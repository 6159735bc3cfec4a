import { describe } from 'vitest'
import { mediaType } from '../../src/image/media-type.ts'
import { endless, type HostileCase, kind, layer, manifest, testHostile } from './support/hostile.ts'
import { type Handler, serve } from './support/scripted-server.ts'

const on =
  (method: string, answer: Handler): Handler =>
  (request, response, count) => {
    if (request.method !== method) return kind(request, response, count)
    request.resume()
    answer(request, response, count)
  }
const location = (value: string): Handler =>
  on('POST', (_, response) => void response.writeHead(202, { location: value }).end())
const page =
  (body: string, link = ''): Handler =>
  (_, response, count) =>
    void response.writeHead(200, link === '' ? {} : { link: link.replace('COUNT', String(count)) }).end(body)
const patch = { upload: { method: 'patch', chunkSize: 300_000 } } as const

const cases: readonly HostileCase[] = [
  ['an upload location on a metadata service', 'push', 'PROTOCOL', location('http://169.254.169.254/x')],
  ['an upload location that is a file', 'push', 'PROTOCOL', location('file:///tmp/x')],
  ['an upload location with user information', 'push', 'PROTOCOL', location('http://me:hunter2@127.0.0.1/')],
  ['no upload location', 'push', 'PROTOCOL', on('POST', (_, r) => void r.writeHead(202).end())],
  ['an upload location where nobody listens', 'push', 'NETWORK', location('http://127.0.0.1:1/x')],
  [
    'a blob that it stores as another one',
    'push',
    'DIGEST_MISMATCH',
    on('PUT', (_, r) => void r.writeHead(201, { 'docker-content-digest': manifest.descriptor.digest }).end()),
  ],
  ['500 to every commit', 'push', 'REGISTRY', on('PUT', (_, r) => void r.writeHead(500).end())],
  ['uploads that it never commits', 'push', 'REGISTRY', on('PUT', (_, r) => void r.writeHead(202).end())],
  ['a connection that it cuts at each commit', 'push', 'NETWORK', on('PUT', (_, r) => void r.socket?.destroy())],
  [
    'one cut connection',
    'push',
    'recovers',
    on('PUT', (q, r, n) => (n === 1 ? void r.socket?.destroy() : void q.once('end', () => r.writeHead(201).end()))),
  ],
  [
    'a least chunk of 1 TB',
    'push',
    'LIMIT',
    on('POST', (_, r) => void r.writeHead(202, { location: '/x', 'oci-chunk-min-length': '1000000000000' }).end()),
    patch,
  ],
  [
    'chunks of which it keeps 2^64 bytes',
    'push',
    'PROTOCOL',
    (q, r, n) => {
      if (q.method === 'GET') return void r.writeHead(204, { range: '0-18446744073709551615' }).end()
      return on('PATCH', (_, response) => void response.writeHead(416).end())(q, r, n)
    },
    patch,
  ],
  [
    'chunks that it forgets',
    'push',
    'PROTOCOL',
    (q, r, n) => {
      if (q.method === 'GET') return void r.writeHead(204, { range: '0-7' }).end()
      return on('PATCH', (_, response) => void response.writeHead(n < 3 ? 202 : 416, { location: '/x' }).end())(q, r, n)
    },
    patch,
  ],
  ['pages without end', 'tags', 'LIMIT', page('{"tags":[]}', '<?page=COUNT>; rel="next"')],
  ['pages in a circle', 'tags', 'PROTOCOL', page('{"tags":["a"]}', '<?page=1>; rel="next"')],
  ['a next page on another port', 'tags', 'PROTOCOL', page('{"tags":[]}', '<http://127.0.0.1:1/>; rel="next"')],
  ['a next page that is a file', 'tags', 'PROTOCOL', page('{"tags":[]}', '<file:///etc/passwd>; rel="next"')],
  ['a page without end', 'tags', 'LIMIT', endless],
  ['tags that are paths', 'tags', 'PROTOCOL', page('{"tags":["../../../x"]}')],
  ['tags that are no list', 'tags', 'PROTOCOL', page('{"tags":{"length":4611686018427387904}}')],
  ['a million values', 'tags', 'SPEC', page(`{"tags":[${'1,'.repeat(999_999)}1]}`)],
  ['names twice in a page', 'tags', 'SPEC', page('{"tags":["a"],"tags":["b"]}')],
  [
    'referrers that are no index',
    'referrers',
    'SPEC',
    (_, r) => void r.writeHead(200, { 'content-type': mediaType.ociIndex }).end('{"manifests":[{"digest":"x"}]}'),
  ],
  [
    'referrers of which there is no end',
    'referrers',
    'LIMIT',
    (q, r, n) => {
      r.setHeader('content-type', mediaType.ociIndex)
      endless(q, r, n)
    },
  ],
  [
    'a referrers tag that names the subject',
    'refer',
    'PROTOCOL',
    (q, r, n) => {
      if (q.method !== 'GET') return kind(q, r, n)
      if (q.url?.includes('/referrers/')) return void r.writeHead(404).end()
      r.setHeader('content-type', manifest.descriptor.mediaType)
      serve(q, r, manifest.bytes)
    },
  ],
  [
    'an OCI-Subject that is a lie',
    'refer',
    'recovers',
    (() => {
      let stored: Buffer[] = []
      return (q, r, n) => {
        if (q.method === 'PUT' && q.url?.includes('sha256-')) {
          stored = []
          q.on('data', (chunk: Buffer) => stored.push(chunk))
          q.once('end', () => r.writeHead(201).end())
          return
        }
        if (q.method === 'PUT') r.setHeader('oci-subject', manifest.descriptor.digest)
        if (q.method !== 'GET') return kind(q, r, n)
        if (stored.length === 0 || q.url?.includes('/referrers/')) return void r.writeHead(404).end()
        r.setHeader('content-type', mediaType.ociIndex)
        serve(q, r, Buffer.concat(stored))
      }
    })(),
  ],
  [
    'manifests that it takes and forgets',
    'refer',
    'CONFLICT',
    (q, r, n) => (q.method === 'GET' ? void r.writeHead(404).end() : kind(q, r, n)),
  ],
  [
    'existence that it denies, and content that it has',
    'push',
    'recovers',
    (q, r, n) => (q.method === 'HEAD' ? serve(q, r, layer.bytes) : kind(q, r, n)),
  ],
]

describe('a hostile registry: pushes and lists', () => testHostile(cases))
