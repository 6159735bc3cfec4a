import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LearnReport } from '../../src/index.ts'
import { tar } from '../layer/support/tar.ts'
import { hasTools } from '../store/support/tools.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { serveImage } from './support/image-server.ts'
import { nothing, settledLeftovers } from './support/leftovers.ts'

const project = fileURLToPath(new URL('../..', import.meta.url))
const program = fileURLToPath(new URL('support/puller-runner.ts', import.meta.url))

/** A user that this machine does not know. */
const uid = 54_321
const asUser = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
const needs = ['setpriv', 'unshare', 'newuidmap', 'newgidmap']
const missing =
  cannotRunAsRoot ??
  (!hasTools(...needs)
    ? `needs ${needs.join(', ')}`
    : spawnSync('setpriv', [...asUser.slice(1), 'unshare', '-Urm', 'test', '-r', program]).status === 0
      ? undefined
      : 'needs user namespaces, and a checkout that all may read')

describe.skipIf(missing)(`an ordinary user (${missing ?? 'real ones'})`, () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-engine-'))
    chownSync(directory, uid, uid)
    chmodSync(directory, 0o755)
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  /** Pulls and runs as the user; `subordinate` ids are given in a mount namespace of the test's own. */
  async function pullAndRun(
    script: string,
    subordinate?: string,
    options = '{}',
    layers: readonly Buffer[] = [],
  ): Promise<Record<string, unknown>> {
    await using server = await serveImage(busyboxImage({ layers }))
    const home = mkdtempSync(join(directory, 'home-'))
    chownSync(home, uid, uid)
    const [root, state] = [join(home, 'store'), join(home, 'state')]
    const files = { passwd: `root:x:0:0::/root:/bin/sh\ntester:x:${uid}:${uid}::${home}:/bin/sh\n` }
    const given: Record<string, string> =
      subordinate === undefined ? {} : { ...files, subuid: subordinate, subgid: subordinate }
    for (const [name, text] of Object.entries(given)) writeFileSync(join(directory, name), text)
    const binds = Object.keys(given).map((name) => `mount --bind ${join(directory, name)} /etc/${name} && `)
    const command = [...asUser, process.execPath, '--import', 'tsx', program, root, state, `${server.host}/app:1`]
    const args = ['-m', 'sh', '-c', `${binds.join('')} exec "$@"`, 'sh', ...command, script, options]
    const { stdout } = await promisify(execFile)('unshare', args, {
      cwd: project,
      env: { PATH: process.env.PATH, HOME: home },
    })
    const left = await settledLeftovers({ directory: home, mark: 'none-of-its-own' })
    expect(left, stdout).toEqual(nothing)
    return JSON.parse(stdout) as Record<string, unknown>
  }

  it('pulls and runs with nothing but its own id: root inside', async () => {
    const script =
      'id -u; cat /proc/self/uid_map | tr -s " "; echo "I am $(hostname)" | wc -w; echo $$; touch /x && ls -ln /x | cut -d" " -f3-20 | tr -s " " | cut -d" " -f1'
    const result = await pullAndRun(script)
    expect(result).toMatchObject({ code: 0, warnings: [] })
    expect(result.lines).toEqual(['0', ` 0 ${uid} 1`, '3', '1', expect.any(String)])
  })

  it('pulls and runs with the ids of /etc/subuid: other users inside as well', async () => {
    const script =
      'id -u; cat /proc/self/uid_map | tr -s " "; touch /tmp/a && chown 1000:50 /tmp/a && stat -c %u:%g /tmp/a'
    const result = await pullAndRun(script, 'tester:200000:65536\n')
    expect(result.error).toBeUndefined()
    const lines = ['0', ` 0 ${uid} 1`, ' 1 200000 65536', '1000:50']
    expect(result).toMatchObject({ code: 0, warnings: [], lines })
  })

  it('has the owners that the image says, with the ids of /etc/subuid, and removes what they have written', async () => {
    const owned = tar(
      { name: './', type: '5', mode: 0o755, uid: 5, gid: 6 },
      { name: 'home/', type: '5', mode: 0o700, uid: 1000, gid: 1000 },
      { name: 'home/secret', content: 'x', mode: 0o600, uid: 1000, gid: 50 },
    )
    const stat = 'stat -c %u:%g:%a / /home /home/secret'
    const script = `${stat}; mkdir -p /home/a/b && echo y > /home/a/b/c && chown -R 7:8 /home/a && chmod 500 /home/a/b`
    const options = { after: `${stat} /home/a/b /home/a/b/c` }
    const result = await pullAndRun(script, 'tester:200000:65536\n', JSON.stringify(options), [owned])
    expect(result.error).toBeUndefined()
    const found = ['5:6:755', '1000:1000:700', '1000:50:600']
    expect(result).toMatchObject({ code: 0, lines: found, after: [...found, '7:8:500', '7:8:644'] })
  })

  it('is told which ids are missing for an owner of the image', async () => {
    const owned = tar({ name: 'far', content: 'x', uid: 70_000, gid: 0 })
    const { error } = await pullAndRun('true', 'tester:200000:65536\n', '{}', [owned])
    expect(error).toMatchObject({ code: 'ERR_OCI_LAYER', message: expect.stringContaining('70000:0') })
  })

  it('has one owner for all files without ids of /etc/subuid', async () => {
    const owned = tar({ name: 'home/mine', content: 'x', uid: 1000, gid: 50 })
    const result = await pullAndRun('stat -c %u:%g /home/mine', undefined, '{}', [owned])
    expect(result).toMatchObject({ code: 0, lines: ['0:0'] })
  })

  it.each([undefined, 'tester:200000:65536\n'])('answers the system calls of its containers (ids: %j)', async (ids) => {
    const script = 'mkdir /no || mkdir /yes && ls -d /yes /no'
    const result = await pullAndRun(script, ids, JSON.stringify({ denied: '/no' }))
    expect(result.error).toBeUndefined()
    expect(result.lines).toEqual(expect.arrayContaining([expect.stringMatching(/\/no'?: .*quota exceeded/), '/yes']))
  })

  it('learns what its containers need, but for capabilities, and says why', async () => {
    // One pipe for all that is compared: between two there is no order.
    const script = 'exec 2>&1; mkdir /yes && ls -d /yes'
    const { learned, ...first } = await pullAndRun(script, undefined, JSON.stringify({ learn: true }))
    expect(first).toMatchObject({ code: 0, lines: ['/yes'] })
    expect(learned).toMatchObject({ capabilitiesUnknown: expect.stringMatching(/tracefs can't be used.*root/) })
    const { capabilities, seccomp } = learned as LearnReport
    expect(capabilities).toBeUndefined()
    const again = await pullAndRun(`${script}; rmdir /yes`, undefined, JSON.stringify({ seccomp }))
    expect(again.lines).toEqual(['/yes', expect.stringContaining('not permitted')])
  })

  it('runs containers that are detached', async () => {
    const result = await pullAndRun('id -u; exit 3', undefined, JSON.stringify({ detach: true }))
    expect(result).toMatchObject({ lines: ['0'], code: 3 })
  })

  it.each([undefined, 'tester:200000:65536\n'])(
    'has volumes that start with what the image has (ids: %j)',
    async (ids) => {
      const mounts = [{ type: 'volume', source: 'data', target: '/etc' }]
      const script = 'ls /etc; stat -c %u:%g /etc /etc/group; touch /etc/new && grep -c " /etc " /proc/self/mountinfo'
      const result = await pullAndRun(script, ids, JSON.stringify({ mounts }))
      expect(result.error).toBeUndefined()
      expect(result).toMatchObject({ code: 0, lines: ['group', 'passwd', '0:0', '0:0', '1'] })
    },
  )

  it('runs further programs in a container, also in one that is detached', async () => {
    const exec = ['sh', '-c', 'id -u; cat /proc/self/uid_map | tr -s " "; readlink /proc/self/ns/pid | wc -l']
    for (const detach of [false, true]) {
      const result = await pullAndRun('sleep 1000', undefined, JSON.stringify({ exec, detach, oomScoreAdj: 500 }))
      expect(result).toMatchObject({ code: 0, lines: ['0', ` 0 ${uid} 1`, '1'] })
    }
    const both = await pullAndRun('sleep 1000', 'tester:200000:65536\n', JSON.stringify({ exec, user: '7:8' }))
    expect(both).toMatchObject({ code: 0, lines: ['7', expect.any(String), expect.any(String), '1'] })
  })

  it('is told when there is no cgroup to set a limit in', async () => {
    const { error } = await pullAndRun('true', undefined, JSON.stringify({ memory: '64m' }))
    expect(error).toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', message: expect.stringMatching(/delegated|limit/) })
  })
})
