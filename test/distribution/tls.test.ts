import { execFile } from 'node:child_process'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { anonymous, openRepository } from '../../src/distribution/index.ts'
import { NetworkError } from '../../src/errors.ts'
import { hasProgram } from './support/docker-registry.ts'
import { randomLayer, run, temporaryDirectory } from './support/images.ts'
import { serve } from './support/scripted-server.ts'

describe.skipIf(!hasProgram('openssl'))('https (needs openssl)', () => {
  const layer = randomLayer(100_000)
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let certificate: string
  let server: ReturnType<typeof createServer>
  let requests = 0
  let host: string
  beforeAll(async () => {
    directory = await temporaryDirectory()
    certificate = join(directory.path, 'cert.pem')
    const key = join(directory.path, 'key.pem')
    const names = ['-subj', '/CN=test', '-addext', 'subjectAltName=IP:127.0.0.1']
    const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256']
    await run('openssl', ['req', '-x509', ...ec, '-nodes', ...names, '-keyout', key, '-out', certificate])
    server = createServer({ key: await readFile(key), cert: await readFile(certificate) }, (request, response) => {
      requests++
      serve(request, response, layer.bytes)
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  afterAll(async () => {
    server?.closeAllConnections()
    server?.close()
    await directory?.[Symbol.asyncDispose]()
  })

  it('refuses a certificate that nobody vouches for, at once and before a request is sent', async () => {
    const repository = openRepository(`${host}/app`, { credentials: anonymous, insecure: false })
    const started = performance.now()
    const error = await repository.fetch(layer.descriptor).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(NetworkError)
    expect(String(error)).toContain('DEPTH_ZERO_SELF_SIGNED_CERT')
    expect((error as NetworkError).hint).toContain(`certs.d/${host}/ca.crt`)
    expect(requests).toBe(0)
    expect(performance.now() - started).toBeLessThan(2000)
  })

  it('reads from a registry whose certificate is trusted', async () => {
    const code = `
      const { openRepository } = await import(${JSON.stringify(new URL('../../src/distribution/index.ts', import.meta.url).href)})
      const { readAll } = await import(${JSON.stringify(new URL('../../src/content/index.ts', import.meta.url).href)})
      const repository = openRepository(${JSON.stringify(`${host}/app`)}, { insecure: false })
      console.log((await readAll(repository, ${JSON.stringify(layer.descriptor)}, 1e6)).byteLength)`
    const args = ['--import', 'tsx', '--input-type=module', '--eval', code]
    const env = { ...process.env, NODE_EXTRA_CA_CERTS: certificate, DOCKER_CONFIG: directory.path }
    const { stdout } = await promisify(execFile)(process.execPath, args, { env })
    expect(stdout).toBe('100000\n')
  })
})
