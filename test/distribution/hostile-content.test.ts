import { gzipSync } from 'node:zlib'
import { describe } from 'vitest'
import { mediaType } from '../../src/image/media-type.ts'
import { endless, type HostileCase, impatient, layer, manifest, testHostile } from './support/hostile.ts'
import { contentRange, drop, type Handler, rangeStart, serve } from './support/scripted-server.ts'

const { descriptor } = manifest
const size = layer.bytes.byteLength
/** Cuts the first answer after half of the blob; the next ones are `then`'s. */
const dropThen =
  (then: Handler): Handler =>
  (request, response, count) =>
    count === 1 ? drop(request, response, layer.bytes, size / 2) : then(request, response, count)
/** Answers HEAD and GET of a manifest with a body and headers. */
const manifestWith =
  (
    body: string | Uint8Array,
    headers: Readonly<Record<string, string>> = {},
    head: Readonly<Record<string, string>> = headers,
  ): Handler =>
  (request, response) => {
    const type = { 'content-type': descriptor.mediaType }
    if (request.method === 'HEAD') response.writeHead(200, { ...type, ...head }).end()
    else response.writeHead(200, { ...type, ...headers }).end(body)
  }
const text = new TextDecoder().decode(manifest.bytes)
const zip = gzipSync(Buffer.alloc(50_000_000))
const first =
  (answer: Handler): Handler =>
  (request, response, count) =>
    count === 1 ? answer(request, response, count) : serve(request, response, layer.bytes)

const cases: readonly HostileCase[] = [
  ['other content of the same size', 'blob', 'DIGEST_MISMATCH', (q, r) => serve(q, r, Buffer.alloc(size))],
  [
    'a length of 2^62',
    'blob',
    'SIZE_MISMATCH',
    (_, r) => void r.writeHead(200, { 'content-length': '4611686018427387904' }).end(),
  ],
  ['content without end', 'blob', 'SIZE_MISMATCH', endless],
  [
    'a gzip bomb as encoding',
    'blob',
    'SIZE_MISMATCH',
    (_, r) => void r.writeHead(200, { 'content-encoding': 'gzip' }).end(zip),
  ],
  ['drops without progress', 'blob', 'NETWORK', (q, r) => drop(q, r, layer.bytes, 0)],
  ['drops with a little progress', 'blob', 'NETWORK', (q, r) => drop(q, r, layer.bytes, 100)],
  ['a drop after each 300 KB', 'blob', 'recovers', (q, r) => drop(q, r, layer.bytes, 300_000)],
  ['200 to a range', 'blob', 'recovers', dropThen((_, r) => void r.end(layer.bytes))],
  [
    '206 with the wrong start',
    'blob',
    'recovers',
    dropThen((q, r) => {
      if (rangeStart(q) === 0) return void r.end(layer.bytes)
      r.writeHead(206, { 'content-range': contentRange(5, layer.bytes) }).end(layer.bytes.subarray(5))
    }),
  ],
  [
    '206 with a range that is none',
    'blob',
    'PROTOCOL',
    dropThen((_, r) => void r.writeHead(206, { 'content-range': 'lines 1-2/3' }).end()),
  ],
  [
    '206 of content of another size',
    'blob',
    'SIZE_MISMATCH',
    dropThen((q, r) => void r.writeHead(206, { 'content-range': `bytes ${rangeStart(q)}-9/10` }).end()),
  ],
  [
    '206 to a request without range',
    'blob',
    'REGISTRY',
    (_, r) => void r.writeHead(206, { 'content-range': `bytes 5-${size - 1}/${size}` }).end(),
  ],
  ['416 to a range', 'blob', 'SIZE_MISMATCH', dropThen((_, r) => void r.writeHead(416).end())],
  ['404 to a range', 'blob', 'NOT_FOUND', dropThen((_, r) => void r.writeHead(404).end())],
  ['other bytes after a drop', 'blob', 'DIGEST_MISMATCH', dropThen((q, r) => serve(q, r, Buffer.alloc(size)))],
  ['headers that never come', 'blob', 'NETWORK', () => {}, impatient],
  [
    'a byte now and then',
    'blob',
    'NETWORK',
    (_, r) => {
      r.writeHead(200, { 'content-length': size })
      const timer = setInterval(() => r.write('x'), 50)
      r.once('close', () => clearInterval(timer))
    },
    impatient,
  ],
  [
    'a body that stops',
    'blob',
    'NETWORK',
    (q, r) => {
      r.writeHead(rangeStart(q) === 0 ? 200 : 206, {
        'content-length': size - rangeStart(q),
        'content-range': contentRange(rangeStart(q), layer.bytes),
      })
      r.write('x')
    },
    impatient,
  ],
  ['429 with seconds', 'blob', 'recovers', first((_, r) => void r.writeHead(429, { 'retry-after': '0' }).end())],
  [
    '429 with a date',
    'blob',
    'recovers',
    first((_, r) => void r.writeHead(429, { 'retry-after': new Date(Date.now() - 5).toUTCString() }).end()),
  ],
  ['429 for a year', 'blob', 'REGISTRY', first((_, r) => void r.writeHead(429, { 'retry-after': '31536000' }).end())],
  ['503 without end', 'blob', 'REGISTRY', (_, r) => void r.writeHead(503).end()],
  [
    'an error without end',
    'blob',
    'REGISTRY',
    (q, r, n) => {
      r.statusCode = 403
      endless(q, r, n)
    },
  ],
  [
    'an error with control characters',
    'blob',
    'REGISTRY',
    (_, r) =>
      void r.writeHead(403).end(JSON.stringify({ errors: [{ code: '\u001b[2J', message: 'x\u0007'.repeat(999) }] })),
  ],
  [
    'a thousand errors',
    'blob',
    'REGISTRY',
    (_, r) => void r.writeHead(400).end(JSON.stringify({ errors: Array(1000).fill({ code: 'A', message: 'b' }) })),
  ],
  [
    'headers of a megabyte',
    'blob',
    'NETWORK',
    (_, r) => void r.socket?.end(`HTTP/1.1 200 OK\r\nx: ${'y'.repeat(1e6)}\r\n\r\n`),
  ],
  ['an answer that is no HTTP', 'blob', 'NETWORK', (_, r) => void r.socket?.end('hello\r\n\r\n')],
  [
    'a flood of warnings',
    'blob',
    'recovers',
    (q, r) => {
      r.setHeader(
        'warning',
        Array.from({ length: 500 }, (_, i) => `299 - "${i}"`),
      )
      serve(q, r, layer.bytes)
    },
  ],
  [
    'a manifest of 1 GB by its HEAD',
    'resolve',
    'LIMIT',
    manifestWith('', { 'content-length': '1000000000', 'docker-content-digest': descriptor.digest }),
  ],
  [
    'a manifest without end',
    'resolve',
    'LIMIT',
    (q, r, n) => (q.method === 'HEAD' ? void r.writeHead(405).end() : endless(q, r, n)),
  ],
  [
    'a manifest of another digest',
    'resolve',
    'DIGEST_MISMATCH',
    manifestWith(text, { 'docker-content-digest': layer.descriptor.digest }, {}),
  ],
  [
    'a HEAD that lies about the size',
    'pull',
    'SIZE_MISMATCH',
    manifestWith(
      text,
      { 'docker-content-digest': descriptor.digest },
      { 'docker-content-digest': descriptor.digest, 'content-length': '9' },
    ),
  ],
  [
    'a HEAD that lies about the digest',
    'pull',
    'DIGEST_MISMATCH',
    manifestWith(
      text,
      {},
      { 'docker-content-digest': layer.descriptor.digest, 'content-length': String(descriptor.size) },
    ),
  ],
  [
    'a HEAD that lies about the type',
    'pull',
    'SPEC',
    manifestWith(
      text,
      {},
      {
        'docker-content-digest': descriptor.digest,
        'content-length': String(descriptor.size),
        'content-type': mediaType.ociIndex,
      },
    ),
  ],
  ['names that occur twice', 'pull', 'SPEC', manifestWith(text.replace('{', '{"schemaVersion":2,'))],
  [
    'a size of 2^62 in a manifest',
    'pull',
    'SPEC',
    manifestWith(text.replace('"size":1000000', '"size":4611686018427387904')),
  ],
  [
    'a digest that leads out of a directory',
    'pull',
    'SPEC',
    manifestWith(text.replaceAll(layer.descriptor.digest, 'sha256:../../x')),
  ],
  ['a page for people', 'pull', 'SPEC', manifestWith('<html>', { 'content-type': 'text/html' })],
  ['nesting without end', 'pull', 'SPEC', manifestWith(`{"layers":${'['.repeat(100_000)}`)],
]

describe('a hostile registry: content', () => testHostile(cases))
