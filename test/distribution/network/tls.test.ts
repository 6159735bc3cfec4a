import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { anonymous, certificateDirectories, openRepository } from '../../../src/distribution/index.ts'
import { InvalidArgumentError, NetworkError } from '../../../src/errors.ts'
import { createRegistryServer, type RegistryServer } from '../../../src/registry/index.ts'
import { type Certificates, makeCertificates } from '../support/certificates.ts'
import { hasProgram } from '../support/docker-registry.ts'
import { randomLayer, temporaryDirectory } from '../support/images.ts'

describe.skipIf(!hasProgram('openssl'))('certificates (needs openssl)', () => {
  let directory: Awaited<ReturnType<typeof temporaryDirectory>>
  let certificates: Certificates
  let registry: RegistryServer
  beforeAll(async () => {
    directory = await temporaryDirectory()
    certificates = await makeCertificates(directory.path)
    registry = await createRegistryServer({ tls: { ...certificates.server, clientCa: certificates.ca } })
  })
  afterAll(async () => {
    await registry?.close()
    await directory?.[Symbol.asyncDispose]()
  })
  const options = { credentials: anonymous, insecure: false } as const

  it('are found in certs.d, as Docker and podman have them', async () => {
    const base = join(directory.path, 'certs.d')
    const folder = join(base, registry.host)
    await mkdir(folder, { recursive: true })
    await writeFile(join(folder, 'ca.crt'), certificates.ca)
    await writeFile(join(folder, 'client.cert'), certificates.client.cert)
    await writeFile(join(folder, 'client.key'), certificates.client.key)
    const tls = certificateDirectories({ directories: [join(directory.path, 'none'), base] })
    const repository = openRepository(`${registry.host}/app`, { ...options, tls })
    expect(await repository.exists(randomLayer(1).descriptor)).toBe(false)
    expect(await tls('other.test')).toBeUndefined()
    expect(await tls('../etc')).toBeUndefined()
  })

  it('without their key are an error, not a connection without them', async () => {
    const base = join(directory.path, 'no-key')
    await mkdir(join(base, registry.host), { recursive: true })
    await writeFile(join(base, registry.host, 'client.cert'), certificates.client.cert)
    const tls = certificateDirectories({ directories: [base] })
    const repository = openRepository(`${registry.host}/app`, { ...options, tls })
    await expect(repository.resolve('1')).rejects.toThrow(/no client.key beside it/)
  })

  it('are not checked where that is asked for; our own is still sent', async () => {
    const tls = { [registry.host]: { skipVerify: true, ...certificates.client } }
    const repository = openRepository(`${registry.host}/app`, { ...options, tls })
    expect(await repository.exists(randomLayer(1).descriptor)).toBe(false)
  })

  it('of another host are not used', async () => {
    const tls = { 'other.test': { ca: certificates.ca, ...certificates.client } }
    await expect(openRepository(`${registry.host}/app`, { ...options, tls }).resolve('1')).rejects.toThrow(NetworkError)
  })

  it('that are none are refused before anything is sent', async () => {
    for (const bad of [
      { cert: 'no', key: 'no' },
      { cert: certificates.client.cert, key: certificates.server.key },
    ]) {
      const repository = openRepository(`${registry.host}/app`, { ...options, tls: { '*': bad } })
      await expect(repository.resolve('1')).rejects.toThrow(InvalidArgumentError)
    }
  })
})
