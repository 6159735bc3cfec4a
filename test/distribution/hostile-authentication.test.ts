import { describe } from 'vitest'
import { endless, type HostileCase, impatient, kind, layer, testHostile } from './support/hostile.ts'
import { type Handler, serve } from './support/scripted-server.ts'

/** Asks for a token of `realm`, whose requests `token` answers. */
const bearer =
  (realm: string, token: Handler = endless): Handler =>
  (request, response, count) => {
    if (request.url?.startsWith('/token')) return token(request, response, count)
    if (request.headers.authorization?.startsWith('Bearer good')) return serve(request, response, layer.bytes)
    const value =
      realm === '' ? 'Bearer service="x"' : `Bearer realm="${realm.replace('HOST', request.headers.host ?? '')}"`
    response.writeHead(401, { 'www-authenticate': value }).end()
  }
const own = 'http://HOST/token'
const answer =
  (body: string): Handler =>
  (_, response) =>
    void response.end(body)
const redirect =
  (location: string, status = 307): Handler =>
  (request, response) => {
    request.resume()
    response.writeHead(status, { location }).end()
  }

const cases: readonly HostileCase[] = [
  ['a realm on a metadata service', 'blob', 'PROTOCOL', bearer('http://169.254.169.254/latest')],
  ['a realm on plain http elsewhere', 'blob', 'PROTOCOL', bearer('http://192.0.2.1/token')],
  ['a realm that is no http', 'blob', 'PROTOCOL', bearer('ftp://127.0.0.1/token')],
  ['a realm that is a file', 'blob', 'PROTOCOL', bearer('file:///etc/passwd')],
  ['a realm with user information', 'blob', 'PROTOCOL', bearer('http://a:b@127.0.0.1/token')],
  ['a realm that is no absolute URL', 'blob', 'PROTOCOL', bearer('/token')],
  ['no realm', 'blob', 'REGISTRY', bearer('')],
  ['a token server that redirects', 'blob', 'PROTOCOL', bearer(own, redirect('/token2'))],
  ['a token without end', 'blob', 'LIMIT', bearer(own, endless)],
  ['a token that is no JSON', 'blob', 'PROTOCOL', bearer(own, answer('hunter2'))],
  ['a token that would add headers', 'blob', 'PROTOCOL', bearer(own, answer('{"token":"good\\r\\nx: y"}'))],
  ['a token that is a number', 'blob', 'PROTOCOL', bearer(own, answer('{"token":7}'))],
  ['a token without expiry', 'blob', 'recovers', bearer(own, answer('{"token":"good"}'))],
  ['a token that ended before it began', 'blob', 'recovers', bearer(own, answer('{"token":"good","expires_in":-9e9}'))],
  ['a token that lives for ever', 'blob', 'recovers', bearer(own, answer('{"token":"good","expires_in":1e300}'))],
  ['a token that is never good', 'blob', 'REGISTRY', bearer(own, answer('{"token":"bad"}'))],
  ['a token server that hangs', 'blob', 'NETWORK', bearer(own, () => {}), impatient],
  [
    'a token server that is always busy',
    'blob',
    'REGISTRY',
    bearer(own, (_, response) => void response.writeHead(503).end()),
  ],
  [
    'challenges of 12 KB',
    'blob',
    'REGISTRY',
    (_, response) => void response.writeHead(401, { 'www-authenticate': `Bearer ${'a=b,'.repeat(3000)}` }).end(),
  ],
  [
    '401 in the middle of an upload',
    'push',
    'REGISTRY',
    (request, response, count) => {
      if (request.method !== 'PUT') return kind(request, response, count)
      request.resume()
      response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
    },
  ],
  ['a redirect in a circle', 'blob', 'PROTOCOL', redirect('/v2/')],
  ['a redirect to a metadata service', 'blob', 'PROTOCOL', redirect('http://169.254.169.254/')],
  ['a redirect to a metadata service in IPv6', 'blob', 'PROTOCOL', redirect('http://[::ffff:169.254.169.254]/')],
  ['a redirect to a file', 'blob', 'PROTOCOL', redirect('file:///etc/passwd')],
  ['a redirect with user information', 'blob', 'PROTOCOL', redirect('http://me:hunter2@127.0.0.1/')],
  ['a redirect to nowhere', 'blob', 'PROTOCOL', redirect('http://')],
  [
    'a redirect that would turn an upload into a download',
    'push',
    'PROTOCOL',
    (request, response, count) =>
      request.method === 'PUT' ? redirect('/x', 302)(request, response, count) : kind(request, response, count),
  ],
]

describe('a hostile registry: authentication and redirects', () => testHostile(cases))
