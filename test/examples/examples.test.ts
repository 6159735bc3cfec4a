import { execFileSync, spawn } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { assembleHostImage, pushImage } from '../../examples/demo/host-image.ts'
import { createRegistryServer, type RegistryServer } from '../../src/registry/index.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const isRoot = process.getuid?.() === 0
const canRun = process.platform === 'linux'
const nobody = 65_534

/** Why the demo can't be tried as an ordinary user. */
const noUser = !canRun
  ? 'needs Linux'
  : !isRoot
    ? 'needs root, to become one'
    : isReadableForAll(root)
      ? undefined
      : 'needs a checkout that every user can read'

let registry: RegistryServer
let directory: string
let image: string

beforeAll(async () => {
  if (!existsSync(join(root, 'dist/index.js'))) throw new Error('There is no dist/: run `npm run build` first')
  directory = mkdtempSync(join(tmpdir(), 'oci-ts-examples-'))
  registry = await createRegistryServer()
  const made = await assembleHostImage(['cat', 'ls', 'mkdir', 'sleep'], ['sh', '-c', 'echo nothing to do'])
  await pushImage(made, `${registry.host}/host`, '1')
  image = `${registry.host}/host:1`
})

afterAll(async () => {
  await registry?.close()
  rmSync(directory, { recursive: true, force: true })
})

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs Node with `args` in the checkout; its temporary files and its store are below the test's directory. */
function node(args: readonly string[], env: NodeJS.ProcessEnv = {}, uid?: number): Promise<Ended> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('VITEST'))
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: {
      ...Object.fromEntries(inherited),
      NODE_ENV: '',
      OCI_TS_ROOT: join(directory, 'store'),
      NO_COLOR: '1',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(uid === undefined ? {} : { uid, gid: uid }),
  })
  const texts = { stdout: '', stderr: '' }
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text
    })
  }
  return new Promise((resolve, reject) => {
    child.once('error', reject)
    child.once('close', (code) => resolve({ code, ...texts }))
  })
}

const tsx = (path: string, ...args: readonly string[]): readonly string[] => [
  '--import',
  'tsx',
  join('examples', path),
  ...args,
]

/** Runs the demo. @returns what it printed. */
async function demo(uid?: number): Promise<string> {
  const home = mkdtempSync(join(directory, 'home-'))
  const temporary = join(home, 'tmp')
  mkdirSync(temporary)
  chmodSync(directory, 0o755)
  if (uid !== undefined) for (const path of [home, temporary]) chownSync(path, uid, uid)
  const { code, stdout, stderr } = await node(tsx('demo.ts'), { HOME: home, TMPDIR: temporary }, uid)
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
  expect(stdout).not.toMatch(/NaN|nothing|undefined/)
  for (const text of ['registry', 'push', 'pull', 'code 42', 'uid=0(root)', '1, of 1 processes', 'median']) {
    expect(stdout).toContain(text)
  }
  // A log is not a terminal.
  expect(stdout).not.toContain('\x1b')
  expect(stdout).not.toContain('\r')
  expect(readdirSync(temporary).filter((name) => name.startsWith('oci-ts'))).toEqual([])
  return stdout
}

describe.skipIf(!canRun)('the demo (needs Linux)', () => {
  it.skipIf(!isRoot)('shows a container with its limits as root, and leaves nothing (needs root)', async () => {
    const stdout = await demo()
    for (const limit of ['64 MiB', '0.5 of one', 'at most 64']) expect(stdout).toContain(limit)
  })

  it.skipIf(noUser !== undefined)(
    `shows a container as an ordinary user, and leaves nothing (${noUser ?? 'as nobody'})`,
    async () => {
      const stdout = await demo(nobody)
      expect(stdout).toContain('rootless')
      expect(stdout).not.toMatch(/\bmemory\b/)
    },
  )

  it.skipIf(isRoot)('shows a container as the ordinary user who runs the tests (needs not to be root)', async () =>
    expect(await demo()).toContain('rootless'),
  )
})

describe.skipIf(!canRun)('examples (need Linux)', () => {
  it('pull-and-run.ts ends as its command does', async () => {
    const command = ['sh', '-c', 'echo out; echo err >&2; exit 3']
    const { code, stdout, stderr } = await node(tsx('pull-and-run.ts', image, ...command))
    expect(stdout).toBe('out\n')
    expect(stderr).toMatch(new RegExp(`^pulled ${image}, sha256:[0-9a-f]{64}\nerr\n$`))
    expect(code).toBe(3)
  })

  it("pull-and-run.ts runs the image's own command when it is given none", async () => {
    expect(await node(tsx('pull-and-run.ts', image))).toMatchObject({ code: 0, stdout: 'nothing to do\n' })
  })

  it.skipIf(!isRoot)('pool.ts runs each command in a container of its own, from a pool', async () => {
    const { code, stdout, stderr } = await node(tsx('pool.ts', image, '3'))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^1 squared is 1\n2 squared is 4\n3 squared is 9\nmedian of 3 runs: [\d.]+ ms\n$/)
  })

  it('volumes.ts keeps data from one container to the next', async () => {
    const backup = join(directory, 'backup.tar')
    const { code, stdout, stderr } = await node(tsx('volumes.ts', image, backup))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.split('\n')).toEqual([
      'first',
      'first',
      'second',
      'example-data is used by 0 containers',
      `it takes some space; a copy of it is in ${backup}`,
      '',
    ])
    expect(statSync(backup).size).toBeGreaterThan(1024)
  })

  it('on-syscall.ts decides what a container does', async () => {
    const { code, stdout, stderr } = await node(tsx('on-syscall.ts', image))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trim().split('\n')
    expect(lines).toContain('asked for /no')
    expect(lines).toContainEqual(expect.stringMatching(/cannot create directory .?\/no.?: Disk quota exceeded/))
    expect(lines.slice(-2)).toEqual(['/yes', 'read from a descriptor of the program outside'])
  })

  it('learn.ts runs a command once more with what it needs alone', async () => {
    const { code, stdout, stderr } = await node(tsx('learn.ts', image, 'sh', '-c', 'mkdir /made; ls -d /made; exit 3'))
    expect({ code, stderr }).toEqual({ code: 3, stderr: '' })
    const lines = stdout.trim().split('\n')
    expect(lines).toEqual([
      '/made',
      expect.stringMatching(/^\d+ system calls of \d+ kinds; the profile names \d+$/),
      expect.stringMatching(/^capabilities: /),
      '/made',
    ])
  })

  it('keep-tidy.ts finds a store in order, and says so', async () => {
    const { code, stdout, stderr } = await node(tsx('keep-tidy.ts'))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toMatch(/^\d+ images, 0 containers, 0 volumes\n\d+ blobs and \d+ layers checked: 0 findings\n/)
    expect(stdout).toMatch(/tidy\n$/)
  })

  it('image-from-directory.ts makes an image, changes it, saves it, pushes it and runs it', async () => {
    const root = mkdtempSync(join(directory, 'root-'))
    const { layers } = await assembleHostImage(['cat'], ['sh'])
    for (const layer of layers) execFileSync('tar', ['-xzf', '-', '-C', root], { input: layer.bytes })
    const archive = join(directory, 'example.tar')
    const { code, stdout, stderr } = await node(
      tsx('image-from-directory.ts', root, 'example:1', archive, `${registry.host}/example:1`),
    )
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    const lines = stdout.trim().split('\n')
    expect(lines).toContain('added /greeting')
    expect(lines).toContain('added /example.ts')
    expect(lines).toContain(`pushed ${registry.host}/example:1`)
    expect(lines.at(-1)).toBe('hello from the image')
    expect(statSync(archive).size).toBeGreaterThan(10_000)
  })

  it('vitest/ has tests that pass, and says how many', async () => {
    const { code, stdout, stderr } = await node(
      ['node_modules/vitest/vitest.mjs', 'run', '--root', 'examples/vitest', '--no-color'],
      { TEST_IMAGE: image },
    )
    expect({ code, stderr, stdout }).toMatchObject({ code: 0 })
    expect(stdout).toMatch(/Tests\s+5 passed/)
  })
})

function isReadableForAll(path: string): boolean {
  const parents = path.split('/').map((_, index, names) => names.slice(0, index + 1).join('/') || '/')
  return parents.every((parent) => (statSync(parent).mode & 0o5) === 0o5)
}
