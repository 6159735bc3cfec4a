import { execFile, spawnSync } from 'node:child_process'
import { createHmac, generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { InvalidArgumentError } from '../../src/errors.ts'
import {
  type AccessRequest,
  basicAuth,
  bearerAuth,
  createRegistryHandler,
  createRegistryServer,
  jwtVerifier,
  memoryStorage,
  type RegistryServer,
  tokenAuth,
} from '../../src/registry/index.ts'
import { Client, errorCode, imageManifest, temporaryDirectory } from './support.ts'

const run = promisify(execFile)
const users = { alice: 'wonder', bob: 'builder' }

function basic(user: string, password: string): Record<string, string> {
  return { authorization: `Basic ${Buffer.from(`${user}:${password}`).toString('base64')}` }
}

/** Everybody reads, alice writes, nobody deletes; what is below `alice/private` is hers. */
function authorize({ action, repository, user }: AccessRequest): boolean {
  if (repository?.startsWith('alice/private')) return user === 'alice'
  return action === 'pull' || (action === 'push' && user === 'alice')
}

describe('Basic authentication', () => {
  it('asks who a client is, and lets in who has the right password', async () => {
    const client = new Client(createRegistryHandler({ storage: memoryStorage(), auth: basicAuth({ users }) }))
    const asked = await client.send('GET', '/v2/')
    expect(asked.status).toBe(401)
    expect(asked.headers.get('www-authenticate')).toBe('Basic realm="registry", charset="UTF-8"')
    expect(await errorCode(asked)).toBe('UNAUTHORIZED')
    expect((await client.send('GET', '/v2/', { headers: basic('alice', 'wonder') })).status).toBe(200)
    const wrong = [
      basic('alice', 'builder'),
      basic('eve', ''),
      basic('', ''),
      basic('toString', 'x'),
      { authorization: 'Basic ?' },
      { authorization: 'Bearer x' },
    ]
    for (const headers of wrong) {
      expect((await client.send('GET', '/v2/', { headers })).status).toBe(401)
      expect((await client.send('POST', '/v2/a/blobs/uploads/', { headers })).status).toBe(401)
      expect((await client.send('GET', '/v2/_catalog', { headers })).status).toBe(401)
    }
  })

  it('asks the application about every request', async () => {
    const storage = memoryStorage()
    await new Client(createRegistryHandler({ storage })).pushImage('alice/private', 'v1')
    const client = new Client(createRegistryHandler({ storage, auth: basicAuth({ users }), authorize }))
    const status = async (method: string, path: string, headers: Record<string, string> = {}): Promise<number> =>
      (await client.send(method, path, { headers })).status
    expect(await status('GET', '/v2/open/manifests/v1')).toBe(404)
    expect(await status('POST', '/v2/open/blobs/uploads/')).toBe(401)
    expect(await status('POST', '/v2/open/blobs/uploads/', basic('bob', 'builder'))).toBe(403)
    expect(await status('POST', '/v2/open/blobs/uploads/', basic('alice', 'wonder'))).toBe(202)
    expect(await status('DELETE', '/v2/open/manifests/v1', basic('alice', 'wonder'))).toBe(403)
    expect(await status('GET', '/v2/alice/private/manifests/v1')).toBe(401)
    expect(await status('GET', '/v2/alice/private/manifests/v1', basic('bob', 'builder'))).toBe(403)
    expect(await status('GET', '/v2/alice/private/manifests/v1', basic('alice', 'wonder'))).toBe(200)
  })

  it('mounts from no repository that the user may not read, and from none that is not named', async () => {
    const storage = memoryStorage()
    const digest = await new Client(createRegistryHandler({ storage })).push('secret', Buffer.from('secret'))
    const handler = createRegistryHandler({
      storage,
      auth: basicAuth({ users }),
      authorize: ({ repository, user }) => repository !== 'secret' || user === 'alice',
    })
    const mount = async (from: string, headers: Record<string, string>): Promise<number> =>
      (await new Client(handler).send('POST', `/v2/bob/blobs/uploads/?mount=${digest}${from}`, { headers })).status
    expect(await mount('&from=secret', basic('bob', 'builder'))).toBe(202)
    expect(await mount('', basic('bob', 'builder'))).toBe(202)
    expect(await mount('', basic('alice', 'wonder'))).toBe(202)
    expect(await mount('&from=secret', basic('alice', 'wonder'))).toBe(201)
  })
})

describe('the token server', () => {
  const handler = createRegistryHandler({ storage: memoryStorage(), auth: tokenAuth({ users }), authorize })
  const client = new Client(handler)

  async function token(scope: string, headers: Record<string, string> = {}): Promise<Record<string, string>> {
    const response = await client.send('GET', `/token?service=oci-ts&scope=${encodeURIComponent(scope)}`, { headers })
    const body: { token: string } = JSON.parse(await response.text())
    return { authorization: `Bearer ${body.token}` }
  }

  it('tells where tokens are, and for what', async () => {
    const response = await client.send('POST', '/v2/app/blobs/uploads/', { headers: { host: 'r.example:5000' } })
    expect(response.headers.get('www-authenticate')).toBe(
      'Bearer realm="http://r.example:5000/token",service="oci-ts",scope="repository:app:pull,push"',
    )
    const evil = await client.send('GET', '/v2/', { headers: { host: 'x",realm="y' } })
    expect(evil.headers.get('www-authenticate')).not.toContain('realm="y')
  })

  it('grants what the user may do and no more, and a token is good for that only', async () => {
    const alice = await token('repository:app:pull,push,delete repository:other:pull', basic('alice', 'wonder'))
    expect((await client.send('POST', '/v2/app/blobs/uploads/', { headers: alice })).status).toBe(202)
    const refused = await client.send('POST', '/v2/other/blobs/uploads/', { headers: alice })
    expect(refused.status).toBe(401)
    expect(refused.headers.get('www-authenticate')).toContain('error="insufficient_scope"')
    expect((await client.send('DELETE', '/v2/app/manifests/v1', { headers: alice })).status).toBe(401)
    const anybody = await token('repository:app:pull,push')
    expect((await client.send('GET', '/v2/app/manifests/v1', { headers: anybody })).status).toBe(404)
    expect((await client.send('POST', '/v2/app/blobs/uploads/', { headers: anybody })).status).toBe(401)
  })

  it('refuses wrong passwords, other services and strange requests', async () => {
    expect((await client.send('GET', '/token', { headers: basic('alice', 'x') })).status).toBe(401)
    expect((await client.send('GET', '/token', { headers: { authorization: 'Digest x' } })).status).toBe(401)
    expect((await client.send('GET', '/token?service=elsewhere')).status).toBe(400)
    expect((await client.send('DELETE', '/token')).status).toBe(405)
    const form = (text: string): Promise<Response> => client.send('POST', '/token', { body: Buffer.from(text) })
    expect((await form('grant_type=password&username=alice&password=wonder')).status).toBe(200)
    expect((await form('grant_type=password&username=alice&password=x')).status).toBe(401)
    expect((await form('grant_type=refresh_token&refresh_token=x')).status).toBe(400)
    expect((await form('x'.repeat(100_000))).status).toBe(413)
  })
})

describe('tokens of another server', () => {
  const secret = randomBytes(32)
  const now = Math.floor(Date.now() / 1000)
  const good = { iss: 'issuer', aud: 'service', sub: 'alice', exp: now + 60, access: grant('app', 'pull') }

  function grant(name: string, ...actions: string[]): object[] {
    return [{ type: 'repository', name, actions }]
  }
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  function hmac(claims: object, header: object = { alg: 'HS256' }, key: Uint8Array = secret): string {
    const text = `${encode(header)}.${encode(claims)}`
    return `${text}.${createHmac('sha256', key).update(text).digest('base64url')}`
  }

  it.each([
    ['another key', hmac(good, { alg: 'HS256' }, randomBytes(32))],
    ['no signature', `${encode({ alg: 'none' })}.${encode(good)}.`],
    ['an algorithm that nobody knows', hmac(good, { alg: 'toString' })],
    ['a critical extension', hmac(good, { alg: 'HS256', crit: ['x'] })],
    ['an end that has passed', hmac({ ...good, exp: now - 61 })],
    ['no end', hmac({ ...good, exp: undefined })],
    ['a beginning to come', hmac({ ...good, nbf: now + 100 })],
    ['another issuer', hmac({ ...good, iss: 'x' })],
    ['another audience', hmac({ ...good, aud: ['x'] })],
    ['no grant', hmac({ ...good, access: undefined })],
    ['a grant for another repository', hmac({ ...good, access: grant('app2', 'pull') })],
    ['a grant that is no grant', hmac({ ...good, access: [null, 1, 'x', {}] })],
    ['no form', 'a.b'],
  ])('are refused with %s', async (_, token) => {
    const verify = jwtVerifier({ secret, issuer: 'issuer', audience: 'service' })
    const auth = bearerAuth({ realm: 'https://auth.example/token', service: 'service', verify })
    const client = new Client(createRegistryHandler({ storage: memoryStorage(), auth }))
    const path = '/v2/app/manifests/v1'
    expect((await client.send('GET', path, { headers: { authorization: `Bearer ${hmac(good)}` } })).status).toBe(404)
    expect((await client.send('GET', path, { headers: { authorization: `Bearer ${token}` } })).status).toBe(401)
  })

  it('are checked by the public keys of a set, which is asked for again for a new key', async () => {
    const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const jwk = { ...pair.publicKey.export({ format: 'jwk' }), kid: 'one', alg: 'ES256', kty: 'EC' }
    let asked = 0
    const verify = jwtVerifier({
      keys: async () => {
        asked += 1
        return { keys: [jwk] }
      },
    })
    const text = `${encode({ alg: 'ES256', kid: 'one' })}.${encode(good)}`
    const signature = sign('sha256', Buffer.from(text), { key: pair.privateKey, dsaEncoding: 'ieee-p1363' })
    expect(await verify(`${text}.${signature.toString('base64url')}`)).toMatchObject({ user: 'alice' })
    expect(await verify(`${text}.${randomBytes(64).toString('base64url')}`)).toBeUndefined()
    // A public key is no secret: a token must not be signed with it as one.
    expect(await verify(hmac(good, { alg: 'HS256', kid: 'one' }, Buffer.from(JSON.stringify(jwk))))).toBeUndefined()
    expect(await verify(hmac(good, { alg: 'ES256', kid: 'other' }))).toBeUndefined()
    expect(asked).toBe(1)
    expect(() => jwtVerifier({})).toThrow(InvalidArgumentError)
    expect(() => jwtVerifier({ secret: 'short' })).toThrow(InvalidArgumentError)
  })
})

describe('a registry that is only for reading, or has something to say', () => {
  it('refuses every change with 405, while it is so', async () => {
    const storage = memoryStorage()
    let readOnly = false
    const client = new Client(createRegistryHandler({ storage, readOnly: () => readOnly }))
    const image = await client.pushImage('app', 'v1')
    readOnly = true
    expect((await client.send('GET', '/v2/app/manifests/v1')).status).toBe(200)
    for (const [method, path] of [
      ['POST', '/v2/app/blobs/uploads/'],
      ['PUT', '/v2/app/manifests/v2'],
      ['DELETE', `/v2/app/manifests/${image.digest}`],
    ] as const) {
      const response = await client.send(method, path, { body: image.raw })
      expect(response.status).toBe(405)
      expect(await errorCode(response)).toBe('UNSUPPORTED')
    }
  })

  it('sends warnings, and nothing that would break the header', async () => {
    const warnings = ({ repository }: AccessRequest): readonly string[] => [`${repository} "moves"\r\nX: y`, 'twice']
    const client = new Client(createRegistryHandler({ storage: memoryStorage(), warnings }))
    await client.pushImage('app', 'v1')
    const { headers } = await client.send('GET', '/v2/app/manifests/v1')
    expect(headers.get('warning')).toBe('299 - "app \\"moves\\"??X: y", 299 - "twice"')
    expect(headers.get('x')).toBeNull()
  })

  it('takes manifests without their content when told so', async () => {
    const manifest = imageManifest(Buffer.from('absent'), Buffer.from('absent too'))
    const put = (sparseManifests: boolean): Promise<Response> =>
      new Client(createRegistryHandler({ storage: memoryStorage(), sparseManifests })).putManifest('a', 'v1', manifest)
    expect((await put(false)).status).toBe(400)
    expect((await put(true)).status).toBe(201)
  })
})

const noSkopeo = spawnSync('skopeo', ['--version']).status !== 0 || spawnSync('openssl', ['version']).status !== 0

describe.skipIf(noSkopeo)('skopeo (apt-get install skopeo openssl)', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let tls: { cert: string; key: string }
  const open: RegistryServer[] = []

  beforeAll(async () => {
    directory = await temporaryDirectory()
    const [key, cert] = [join(directory.path, 'client.key'), join(directory.path, 'client.cert')]
    const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
    const names = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1']
    await run('openssl', ['req', '-x509', ...curve, '-nodes', ...names, '-keyout', key, '-out', cert])
    const read = async (file: string): Promise<string> => (await run('cat', [file])).stdout
    tls = { cert: await read(cert), key: await read(key) }
    await writeFile(join(directory.path, 'ca.crt'), tls.cert)
  })
  afterAll(async () => {
    for (const registry of open) await registry.close()
    await directory.remove()
  })

  it.each([
    ['a password', { auth: basicAuth({ users }) }, false],
    ['tokens', { auth: tokenAuth({ users }), authorize }, false],
    ['a password over TLS', { auth: basicAuth({ users }) }, true],
    ['tokens over mutual TLS', { auth: tokenAuth({ users }), authorize }, true],
  ] as const)(
    'logs in, pushes and pulls with %s',
    async (name, options, secure) => {
      const mutual = name.includes('mutual') ? { clientCa: tls.cert } : {}
      const registry = await createRegistryServer({ ...options, ...(secure ? { tls: { ...tls, ...mutual } } : {}) })
      open.push(registry)
      const auth = join(directory.path, `${registry.port}.json`)
      const verify = secure ? [`--cert-dir=${directory.path}`] : ['--tls-verify=false']
      const login = (password: string): Promise<unknown> =>
        run('skopeo', ['login', `--authfile=${auth}`, ...verify, '-u', 'alice', '-p', password, registry.host])
      await expect(login('wrong')).rejects.toThrow(/unauthorized|invalid username|401/i)
      await login('wonder')
      const layout = join(directory.path, `layout-${registry.port}`)
      const dest = secure ? [`--dest-cert-dir=${directory.path}`] : ['--dest-tls-verify=false']
      const src = secure ? [`--src-cert-dir=${directory.path}`] : ['--src-tls-verify=false']
      await writeImage(layout)
      const copy = ['--insecure-policy', 'copy', `--authfile=${auth}`]
      await run('skopeo', [...copy, ...dest, `oci:${layout}:v1`, `docker://${registry.host}/alice/private/app:v1`])
      await run('skopeo', [...copy, ...src, `docker://${registry.host}/alice/private/app:v1`, `oci:${layout}-back:v1`])
      await expect(
        run('skopeo', [
          '--insecure-policy',
          'copy',
          ...src,
          `docker://${registry.host}/alice/private/app:v1`,
          `oci:${layout}-no:v1`,
        ]),
      ).rejects.toThrow(/unauthorized|authentication required|denied/i)
    },
    60_000,
  )
})

/** An image layout of one small image. */
async function writeImage(path: string): Promise<void> {
  const store = memoryStorage()
  const registry = await createRegistryServer({ storage: store })
  try {
    await new Client(createRegistryHandler({ storage: store })).pushImage('seed', 'v1')
    await run('skopeo', [
      '--insecure-policy',
      'copy',
      '--src-tls-verify=false',
      `docker://${registry.host}/seed:v1`,
      `oci:${path}:v1`,
    ])
  } finally {
    await registry.close()
  }
}
