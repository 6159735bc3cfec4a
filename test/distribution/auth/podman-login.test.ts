import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { containersAuthCredentials, createRegistryClient } from '../../../src/distribution/index.ts'
import { RegistryError } from '../../../src/errors.ts'
import { basicAuth, createRegistryServer, tokenAuth } from '../../../src/registry/index.ts'
import { hasProgram } from '../support/docker-registry.ts'
import { randomLayer, run, temporaryDirectory } from '../support/images.ts'

const users = { alice: 'secret', bob: 'other' }

describe.skipIf(!hasProgram('podman'))('what podman login has left (needs podman)', () => {
  it.each([
    ['Basic', basicAuth({ users })],
    ['tokens', tokenAuth({ users })],
  ])('opens each namespace of a registry with its own credential: %s', async (_, auth) => {
    await using registry = await createRegistryServer({
      auth,
      authorize: ({ user, repository }) => repository?.startsWith(`${user}/`) === true,
    })
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'auth.json')
    for (const [user, password] of Object.entries(users)) {
      const place = `${registry.host}/${user}`
      await run('podman', ['login', '--tls-verify=false', '--authfile', path, '-u', user, '-p', password, place])
    }
    const client = createRegistryClient({ credentials: containersAuthCredentials({ path }) })
    const layer = randomLayer(100)
    const [alices, bobs] = ['alice/app', 'bob/app'].map((name) => client.repository(`${registry.host}/${name}`))
    for (const repository of [alices, bobs]) await repository?.push(layer.descriptor, layer.bytes)
    expect(await bobs?.exists(layer.descriptor)).toBe(true)
    expect(await client.repository(`${registry.host}/bob/new`).mount(layer.descriptor, alices)).toBe(false)
    const carols = client.repository(`${registry.host}/carol/app`)
    await expect(carols.exists(layer.descriptor)).rejects.toThrow(RegistryError)
    expect((await client.explainAuth(`${registry.host}/bob/app`)).used?.detail).toContain('/bob: password of bob')
  })
})
