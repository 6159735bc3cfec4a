import { createHash, createPrivateKey, createPublicKey, type KeyObject, randomUUID, sign } from 'node:crypto'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { run } from './images.ts'

/** What a token was asked for by. */
export interface TokenCall {
  readonly method: string
  readonly scopes: readonly string[]
  readonly authorization: string | undefined
  readonly form: URLSearchParams
}

/** A token server whose tokens docker-registry accepts. */
export interface TokenServer extends AsyncDisposable {
  /** `auth` of docker-registry's configuration. */
  readonly auth: Readonly<Record<'token', Readonly<Record<string, string>>>>
  /** Every request for a token, in order. */
  readonly calls: readonly TokenCall[]
  /** Seconds that tokens live; default 300. */
  lifetime: number
}

const service = 'registry.test'
const issuer = 'oci-ts test'

/**
 * Starts a token server with a key and certificate of its own in `directory`. Anyone may pull; who
 * comes as `user` with `secret`, or with the refresh token `refresh`, may push.
 */
export async function startTokenServer(directory: string): Promise<TokenServer> {
  const [keyFile, certificate] = [join(directory, 'key.pem'), join(directory, 'cert.pem')]
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
  await run('openssl', ['req', '-x509', ...ec, '-nodes', '-subj', '/CN=test', '-keyout', keyFile, '-out', certificate])
  const key = createPrivateKey(await readFile(keyFile))
  const calls: TokenCall[] = []
  const state = { lifetime: 300 }
  const server = createServer(async (request, response) => {
    const call = await readCall(request)
    calls.push(call)
    const push = mayPush(call)
    if (push === undefined) {
      response.writeHead(401).end(JSON.stringify({ errors: [{ code: 'UNAUTHORIZED', message: 'wrong password' }] }))
      return
    }
    const token = signToken(key, call.scopes, push, state.lifetime)
    const body = call.method === 'POST' ? { access_token: token } : { token }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ ...body, expires_in: state.lifetime }))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const realm = `http://127.0.0.1:${(server.address() as AddressInfo).port}/token`
  return {
    auth: { token: { realm, service, issuer, rootcertbundle: certificate } },
    calls,
    get lifetime() {
      return state.lifetime
    },
    set lifetime(seconds: number) {
      state.lifetime = seconds
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

async function readCall(request: IncomingMessage): Promise<TokenCall> {
  const url = new URL(request.url ?? '/', 'http://localhost')
  let text = ''
  for await (const chunk of request) text += chunk
  const form = new URLSearchParams(text)
  const { method = 'GET', headers } = request
  const scopes = method === 'POST' ? (form.get('scope') ?? '').split(' ') : url.searchParams.getAll('scope')
  return { method, scopes, authorization: headers.authorization, form }
}

/** Whether the caller may push; undefined when what it comes with is wrong. */
function mayPush({ method, authorization, form }: TokenCall): boolean | undefined {
  if (method === 'POST') return form.get('refresh_token') === 'refresh' ? true : undefined
  if (authorization === undefined) return false
  return authorization === `Basic ${btoa('user:secret')}` ? true : undefined
}

function signToken(key: KeyObject, scopes: readonly string[], push: boolean, lifetime: number): string {
  const now = Math.floor(Date.now() / 1000)
  const access = scopes.map((scope) => {
    const [type, name, actions = ''] = scope.split(':')
    return { type, name, actions: actions.split(',').filter((action) => push || action === 'pull') }
  })
  const claims = {
    iss: issuer,
    sub: 'test',
    aud: service,
    iat: now,
    nbf: now - 5,
    exp: now + lifetime,
    jti: randomUUID(),
  }
  const parts = [
    { typ: 'JWT', alg: 'ES256', kid: keyId(key) },
    { ...claims, access },
  ]
  const text = parts.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' })
  return `${text}.${signature.toString('base64url')}`
}

/** Key id as docker-registry computes it: 240 bits of the public key's SHA-256 in base32, in groups of four. */
function keyId(key: KeyObject): string {
  const der = createPublicKey(key).export({ type: 'spki', format: 'der' })
  const bits = [...createHash('sha256').update(der).digest().subarray(0, 30)]
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('')
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ234567'
  const letters = (bits.match(/.{5}/g) ?? []).map((five) => alphabet[Number.parseInt(five, 2)]).join('')
  return (letters.match(/.{4}/g) ?? []).join(':')
}
