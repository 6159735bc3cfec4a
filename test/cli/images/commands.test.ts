import { spawn } from 'node:child_process'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copy, LayoutStore, MemoryStore, openArchive } from '../../../src/content/index.ts'
import { anonymous, openRepository } from '../../../src/distribution/index.ts'
import { basicAuth, createRegistryServer, type RegistryServer } from '../../../src/registry/index.ts'
import { makeCertificates } from '../../distribution/support/certificates.ts'
import { tar } from '../../layer/support/tar.ts'
import { image, put } from '../../store/support/image.ts'

const main = fileURLToPath(new URL('../from-sources.ts', import.meta.url))
const directory = mkdtempSync(join(tmpdir(), 'oci-ts-cli-images-'))
const one = image([tar({ name: 'a', content: 'a'.repeat(1000) }), tar({ name: 'b', content: 'b' })])
const { digest } = one.descriptor
let registry: RegistryServer

beforeAll(async () => {
  registry = await createRegistryServer()
  const store = new MemoryStore()
  await put(store, one, '1')
  await copy(store, '1', openRepository(`${registry.host}/team/app`, { credentials: anonymous }))
})
afterAll(async () => {
  await registry?.close()
  rmSync(directory, { recursive: true })
})

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs a command line; the registry answers meanwhile, as it is in this process. */
function run(args: readonly string[], { input = '', terminal = false, env = {} } = {}): Promise<Ended> {
  const command = [process.execPath, '--import', 'tsx', main, ...args]
  const [program = '', ...rest] = terminal
    ? ['script', '-qefc', command.map((each) => `'${each}'`).join(' '), '/dev/null']
    : command
  const child = spawn(program, rest, {
    env: { ...process.env, OCI_TS_ROOT: join(directory, 'store'), DOCKER_CONFIG: join(directory, 'docker'), ...env },
  })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
    })
  }
  child.stdin.end(input)
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...texts }))
  })
}

const isLinux = process.platform === 'linux'

describe('oci-ts pull and push', () => {
  it.skipIf(!isLinux)('print name and digest, and tell the rest elsewhere (needs Linux)', async () => {
    const name = `${registry.host}/team/app:1`
    const pulled = await run(['pull', name])
    expect(pulled).toMatchObject({ code: 0, stdout: `${name}@${digest}\n` })
    expect(pulled.stderr).toMatch(/^sha256:[0-9a-f]{12} +\d+ B {2}done$/m)
    expect(pulled.stderr).not.toContain('\x1b')
    const target = `${registry.host}/other:2`
    expect(await run(['push', '--quiet', name, target])).toEqual({
      code: 0,
      stdout: `${target}@${digest}\n`,
      stderr: '',
    })
  })

  it.skipIf(!isLinux)('say in one line what is wrong (needs Linux)', async () => {
    for (const [args, text] of [
      [['pull', `${registry.host}/team/app:none`], 'not found'],
      [['pull'], 'too few arguments'],
      [['pull', 'a', 'b'], 'too many arguments'],
      [['pull', '--concurrency', '0', 'a'], '--concurrency must be a number'],
      [['push', 'example.com/nothing:1'], 'example.com/nothing:1'],
    ] as const) {
      const { code, stdout, stderr } = await run(args)
      expect([code, stdout]).toEqual([1, ''])
      expect(stderr).toContain(text)
      expect(stderr).not.toContain('    at ')
    }
  })
})

describe('oci-ts copy', () => {
  it('goes between registries, layouts and archives, byte by byte', async () => {
    const [layout, archive] = [join(directory, 'layout'), join(directory, 'app.tar')]
    const name = `docker://${registry.host}/team/app:1`
    const ok = { code: 0, stdout: `${digest}\n` }
    expect(await run(['copy', name, `oci:${layout}`])).toMatchObject(ok)
    expect((await (await LayoutStore.open(layout)).resolve(`${registry.host}/team/app:1`)).digest).toBe(digest)
    expect(await run(['copy', '-q', `oci:${layout}`, `docker-archive:${archive}:example.com/app:3`])).toMatchObject(ok)
    await using opened = await openArchive(archive)
    expect((await opened.resolve('example.com/app:3')).digest).toBe(digest)
    expect(await run(['copy', `oci-archive:${archive}`, `${registry.host}/copied:4`])).toMatchObject(ok)
    const copied = openRepository(`${registry.host}/copied`, { credentials: anonymous })
    expect((await copied.resolve('4')).digest).toBe(digest)
    const failed = await run(['copy', `oci:${layout}:none`, `oci-archive:${join(directory, 'none.tar')}`])
    expect(failed).toMatchObject({ code: 1, stdout: '' })
    expect(() => statSync(join(directory, 'none.tar'))).toThrow()
  })

  it.skipIf(!isLinux)('shows bars on a terminal (needs Linux, for script)', async () => {
    const { code, stdout } = await run(['copy', `${registry.host}/team/app:1`, `oci:${join(directory, 'bars')}`], {
      terminal: true,
    })
    expect(code).toBe(0)
    expect(stdout).toContain('done')
    expect(stdout).toContain(digest)
  })
})

describe('oci-ts tags and search', () => {
  it('list, one a line', async () => {
    const repository = openRepository(`${registry.host}/team/app`, { credentials: anonymous })
    const descriptor = await repository.resolve('1')
    for (const tag of ['2', '3']) await repository.tag(descriptor, tag)
    expect(await run(['tags', `${registry.host}/team/app`])).toEqual({ code: 0, stdout: '1\n2\n3\n', stderr: '' })
    expect((await run(['tags', '--limit', '2', `${registry.host}/team/app`])).stdout).toBe('1\n2\n')
    expect((await run(['search', '--registry', registry.host, 'team'])).stdout).toBe(`${registry.host}/team/app\n`)
  })
})

describe('oci-ts login and logout', () => {
  it('keep a credential that the registry takes, where Docker has it, and remove it', async () => {
    await using server = await createRegistryServer({ auth: basicAuth({ users: { me: 'secret' } }) })
    const login = (password: string): Promise<Ended> =>
      run(['login', '-u', 'me', '--password-stdin', server.host], { input: `${password}\n` })
    const config = join(directory, 'docker/config.json')
    const wrong = await login('wrong')
    expect(wrong.code).toBe(1)
    expect(`${wrong.stdout}${wrong.stderr}`).not.toContain('wrong\n')
    expect(() => statSync(config)).toThrow()
    expect(await login('secret')).toMatchObject({ code: 0, stdout: expect.stringContaining(config) })
    expect(statSync(config).mode & 0o777).toBe(0o600)
    writeFileSync(config, JSON.stringify({ ...JSON.parse(readFileSync(config, 'utf8')), other: 1 }))
    expect((await run(['tags', `${server.host}/nothing`])).stderr).toContain('not found')
    expect(await run(['logout', server.host])).toMatchObject({ code: 0, stdout: `Removed from ${config}\n` })
    expect(JSON.parse(readFileSync(config, 'utf8'))).toEqual({ auths: {}, other: 1 })
    expect((await run(['tags', `${server.host}/nothing`])).stderr).toContain('401')
    expect((await run(['logout', server.host])).stdout).toBe(`There was none for ${server.host}\n`)
  })

  it('speak TLS to a registry on this machine when they are told so', async () => {
    const { ca, server: tls } = await makeCertificates(directory)
    await using server = await createRegistryServer({ tls, auth: basicAuth({ users: { me: 'secret' } }) })
    const trusted = join(directory, 'home/.config/containers/certs.d', server.host)
    mkdirSync(trusted, { recursive: true })
    writeFileSync(join(trusted, 'ca.crt'), ca)
    const env = { HOME: join(directory, 'home') }
    const login = (...options: string[]): Promise<Ended> =>
      run(['login', ...options, '-u', 'me', '--password-stdin', server.host], { input: 'secret\n', env })
    expect(await login()).toMatchObject({ code: 1, stderr: expect.stringContaining('insecure: false') })
    expect(await login('--secure')).toMatchObject({ code: 0 })
    expect((await run(['tags', '--secure', `${server.host}/nothing`], { env })).stderr).toContain('not found')
    expect((await login('--secure', '--insecure', server.host)).stderr).toContain(
      '--secure leaves nothing to --insecure',
    )
  })
})
