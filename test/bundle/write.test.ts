import { spawnSync } from 'node:child_process'
import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createSpec, readBundle, type Spec, writeBundle } from '../../src/bundle/index.ts'
import { LimitError, NotFoundError, SpecError } from '../../src/errors.ts'

let directory: string
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'oci-ts-bundle-'))
})
afterEach(async () => {
  await rm(directory, { recursive: true })
})

const spec = createSpec(undefined, {
  id: 'a',
  command: ['sh', '-c', 'true'],
  ulimits: { core: 'unlimited', nofile: 64 },
})

describe('a bundle', () => {
  it('is read as it was written, 64-bit values included, and is for its owner only', async () => {
    const bundle = join(directory, 'new', 'bundle')
    await writeBundle(bundle, spec)
    expect(await readBundle(bundle)).toEqual(spec)
    expect(await readFile(join(bundle, 'config.json'), 'utf8')).toContain('"hard": 18446744073709551615')
    expect((await stat(bundle)).mode & 0o777).toBe(0o700)
    expect((await stat(join(bundle, 'config.json'))).mode & 0o777).toBe(0o600)
  })

  it('is replaced whole, and nothing else is left', async () => {
    await writeBundle(directory, spec)
    await Promise.all([1, 2, 3, 4, 5].map((n) => writeBundle(directory, { ...spec, hostname: `h${n}` })))
    expect((await readBundle(directory)).hostname).toMatch(/^h\d$/)
    expect(await readdir(directory)).toEqual(['config.json'])
  })

  it('leaves the old file and no temporary one when the new one can not be written', async () => {
    await writeBundle(directory, spec)
    const circular: Record<string, unknown> = {}
    circular.self = circular
    await expect(writeBundle(directory, { ...spec, vm: circular })).rejects.toThrow(TypeError)
    expect(await readdir(directory)).toEqual(['config.json'])
    expect(await readBundle(directory)).toEqual(spec)
  })

  it('keeps strings that look like numbers, and numbers that look like nothing else', async () => {
    const annotations = { a: '18446744073709551615', b: '0.12345678901234567890', 'c"18446744073709551615': '\\"' }
    const written: Spec = { ...spec, annotations, vm: { x: 0.12345678901234568, y: 1e22, z: -9007199254740993n } }
    await writeBundle(directory, written)
    const read = await readBundle(directory)
    expect(read.annotations).toEqual(annotations)
    expect(read.vm).toEqual({ x: 0.12345678901234568, y: 1e22, z: -9007199254740993n })
  })

  it('that is none tells why', async () => {
    await expect(readBundle(directory)).rejects.toThrow(NotFoundError)
    await writeFile(join(directory, 'config.json'), '{"ociVersion": "1.0.0", "ociVersion": "1.0.0"}')
    await expect(readBundle(directory)).rejects.toThrow(/occurs twice/)
    await writeFile(join(directory, 'config.json'), '{"ociVersion": "1.0.0"')
    await expect(readBundle(directory)).rejects.toThrow(SpecError)
    await truncate(join(directory, 'config.json'), 17 * 1024 * 1024)
    await expect(readBundle(directory)).rejects.toThrow(LimitError)
  })
})

const busybox = '/bin/busybox'
const runnable =
  process.getuid?.() === 0 && [['runc', '--version'], [busybox]].every(([c = '', ...a]) => spawnSync(c, a).status === 0)

describe.skipIf(!runnable)('a generated bundle (needs root, runc and busybox)', () => {
  it('runs under runc as Docker would have it', { timeout: 30_000 }, async () => {
    const bin = join(directory, 'rootfs', 'bin')
    await mkdir(bin, { recursive: true })
    for (const name of ['sh', 'id', 'hostname', 'grep', 'env', 'cat']) await copyFile(busybox, join(bin, name))
    const id = `oci-ts-test-${process.pid}-${Date.now()}`
    const script = `id; hostname; grep -E '^(Cap|Seccomp:|NoNew)' /proc/self/status; env
      grep -cE '^[^ ]+ /(proc/kcore|proc/sys|sys/firmware|tmp|mnt) ' /proc/mounts
      cat /proc/sys/net/ipv4/ip_unprivileged_port_start; grep ' /mnt ' /proc/mounts; exit 42`
    await writeBundle(
      directory,
      createSpec(undefined, {
        id,
        hostname: 'box',
        command: ['sh', '-c', script],
        user: '1000:1001',
        env: { A: 'b' },
        memory: '64m',
        cpus: 0.5,
        pids: 64,
        cgroupsPath: `/${id}`,
        mounts: [
          { type: 'tmpfs', target: '/tmp', size: '1m' },
          { type: 'bind', source: directory, target: '/mnt', readOnly: true },
        ],
      }),
    )
    const { status, stdout, stderr } = spawnSync('runc', ['run', '--bundle', directory, id], { encoding: 'utf8' })
    expect({ status, stderr }).toMatchObject({ status: 42 })
    expect(stdout).toMatch(/^uid=1000 gid=1001 groups=1001$/m)
    expect(stdout).toMatch(/^box$/m)
    expect(stdout).toMatch(/^CapInh:\t0+$/m)
    expect(stdout).toMatch(/^CapAmb:\t0+$/m)
    expect(stdout).toMatch(/^Seccomp:\t2$/m)
    expect(stdout).toMatch(/^A=b$/m)
    expect(stdout).toMatch(/^4\n0$/m)
    expect(stdout).toMatch(/ \/mnt \w+ ro,/)
  })
})
