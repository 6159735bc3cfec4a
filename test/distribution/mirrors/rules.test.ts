import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { createRegistryClient, readRegistriesConf } from '../../../src/distribution/index.ts'
import { parseRegistriesConf } from '../../../src/distribution/mirrors/registries-conf.ts'
import { findRoute, type RegistryRule } from '../../../src/distribution/mirrors/rules.ts'
import { InvalidArgumentError, UnsupportedError } from '../../../src/errors.ts'
import { formatReference, parseReference } from '../../../src/image/reference.ts'
import { temporaryDirectory } from '../support/images.ts'

const conf = `
unqualified-search-registries = ["docker.io", 'quay.io']
short-name-mode = "enforcing"

[[registry]]
prefix = "docker.io"
location = "registry.example.com/hub"
[[registry.mirror]]
location = "mirror.example.com:5000/hub"
insecure = true
[[registry.mirror]]
location = "second.example.com"
pull-from-mirror = "tag-only"

[[registry]]
prefix = "docker.io/library"
mirror-by-digest-only = true
mirror = [{ location = "third.example.com/x" }]

[[registry]]
prefix = "*.blocked.test"
blocked = true

[[registry]]
location = "internal.test/team"
insecure = true
`
const rules = parseRegistriesConf(conf, 'registries.conf')
const route = (name: string, from: readonly RegistryRule[] = rules): unknown => {
  const { reference, insecure, mirrors } = findRoute(from, parseReference(name))
  return [
    formatReference(reference),
    insecure,
    ...mirrors.map((m) => `${formatReference(m.reference)} ${m.pull} ${m.insecure}`),
  ]
}

describe('registries.conf', () => {
  it('rewrites by the longest prefix, and names mirrors in order', () => {
    expect(route('org/app')).toEqual([
      'registry.example.com/hub/org/app',
      undefined,
      'mirror.example.com:5000/hub/org/app all true',
      'second.example.com/org/app tag undefined',
    ])
    expect(route('alpine')).toEqual([
      'docker.io/library/alpine',
      undefined,
      'third.example.com/x/alpine digest undefined',
    ])
    expect(route('internal.test/team/app')).toEqual(['internal.test/team/app', true])
    expect(route('internal.test/teams/app')).toEqual(['internal.test/teams/app', undefined])
    expect(route('other.test/app')).toEqual(['other.test/app', undefined])
  })

  it('blocks registries, before anything is sent', () => {
    const client = createRegistryClient({ registries: rules })
    for (const name of ['a.blocked.test/app', 'a.b.blocked.test:5000/x/y']) {
      expect(() => client.repository(name)).toThrow(UnsupportedError)
    }
    expect(() => client.repository('blocked.test/app')).not.toThrow()
  })

  it('is read with the files in its directory, of which later ones count', async () => {
    await using directory = await temporaryDirectory()
    const path = join(directory.path, 'registries.conf')
    await mkdir(`${path}.d`)
    await writeFile(path, '[[registry]]\nlocation = "a.test"\n[[registry]]\nlocation = "b.test"\n')
    await writeFile(join(`${path}.d`, '10-b.conf'), '[[registry]]\nlocation = "b.test"\nblocked = true\n')
    await writeFile(join(`${path}.d`, '20.txt'), 'this is none')
    expect(await readRegistriesConf({ path })).toMatchObject([
      { prefix: 'a.test' },
      { prefix: 'b.test', blocked: true },
    ])
    expect(await readRegistriesConf({ path: '/nonexistent/registries.conf' })).toEqual([])
  })

  it("is the system's with the user's directory, or all the user's own", async () => {
    await using directory = await temporaryDirectory()
    vi.stubEnv('CONTAINERS_REGISTRIES_CONF', '')
    vi.stubEnv('XDG_CONFIG_HOME', directory.path)
    const own = join(directory.path, 'containers', 'registries.conf')
    await mkdir(`${own}.d`, { recursive: true })
    await writeFile(join(`${own}.d`, 'mine.conf'), '[[registry]]\nlocation = "mine.test"\n')
    expect(await readRegistriesConf()).toContainEqual(expect.objectContaining({ prefix: 'mine.test' }))
    await writeFile(own, '[[registry]]\nlocation = "first.test"\n')
    expect((await readRegistriesConf()).map(({ prefix }) => prefix)).toEqual(['first.test', 'mine.test'])
    vi.unstubAllEnvs()
  })

  it.each([
    '[registries.search]\nregistries = ["docker.io"]',
    'registry = "docker.io"',
    '[[registry]]\nblocked = true',
    '[[registry]]\nlocation = 1',
    '[[registry]]\nlocation = "a.test"\nblocked = "no"',
    '[[registry]]\nlocation = "a.test"\n[[registry.mirror]]\ninsecure = true',
    '[[registry]]\nlocation = "a.test"\n[[registry.mirror]]\nlocation = "b.test"\npull-from-mirror = "toString"',
  ])('is refused when it is %j', (text) => {
    expect(() => parseRegistriesConf(text, 'x')).toThrow(InvalidArgumentError)
  })
})
