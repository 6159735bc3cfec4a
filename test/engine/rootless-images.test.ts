import { execFile, spawnSync } from 'node:child_process'
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hasTools } from '../store/support/tools.ts'
import { busyboxLayer, cannotRunAsRoot } from './support/busybox.ts'

const project = fileURLToPath(new URL('../..', import.meta.url))
const program = fileURLToPath(new URL('support/rootless-images.ts', import.meta.url))

/** A user that this machine does not know. */
const uid = 54_322
const asUser = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
const needs = ['setpriv', 'unshare', 'newuidmap', 'newgidmap']
const missing =
  cannotRunAsRoot ??
  (!hasTools(...needs)
    ? `needs ${needs.join(', ')}`
    : spawnSync('setpriv', [...asUser.slice(1), 'unshare', '-Urm', 'test', '-r', program]).status === 0
      ? undefined
      : 'needs user namespaces, and a checkout that all may read')

describe.skipIf(missing)(`an ordinary user makes images (${missing ?? 'real ones'})`, () => {
  let directory: string
  beforeAll(() => {
    directory = mkdtempSync(join(tmpdir(), 'oci-ts-engine-'))
    chmodSync(directory, 0o755)
    writeFileSync(join(directory, 'base.tar'), busyboxLayer())
  })
  afterAll(() => rmSync(directory, { recursive: true, force: true }))

  /** Runs the program as the user; `subordinate` ids are given in a mount namespace of the test's own. */
  async function make(subordinate: string | undefined, rootfs: string): Promise<Record<string, unknown>> {
    const home = mkdtempSync(join(directory, 'home-'))
    mkdirSync(join(home, 'files'))
    for (const path of [home, join(home, 'files')]) chownSync(path, uid, uid)
    const accounts = `root:x:0:0::/root:/bin/sh\ntester:x:${uid}:${uid}::${home}:/bin/sh\n`
    const given: Record<string, string> =
      subordinate === undefined ? {} : { passwd: accounts, subuid: subordinate, subgid: subordinate }
    for (const [name, text] of Object.entries(given)) writeFileSync(join(directory, name), text)
    const binds = Object.keys(given).map((name) => `mount --bind ${join(directory, name)} /etc/${name} && `)
    const paths = [join(home, 'store'), join(home, 'state'), join(directory, 'base.tar'), join(home, 'files')]
    const command = [...asUser, process.execPath, '--import', 'tsx', program, ...paths, rootfs]
    const args = ['-m', 'sh', '-c', `${binds.join('')} exec "$@"`, 'sh', ...command]
    const env = { PATH: process.env.PATH, HOME: home }
    const { stdout } = await promisify(execFile)('unshare', args, { cwd: project, env })
    return JSON.parse(stdout) as Record<string, unknown>
  }

  it.each([
    ['with nothing but its own id', undefined, '0:0', 'overlay'],
    ['with the ids of /etc/subuid', 'tester:300000:65536\n', '5:7', 'overlay'],
    ['with nothing but its own id, of layers that are copied', undefined, '0:0', 'copy'],
    ['with the ids of /etc/subuid, of layers that are copied', 'tester:300000:65536\n', '5:7', 'copy'],
  ])('%s', { timeout: 180_000 }, async (_, subordinate, owner, rootfs) => {
    const result = await make(subordinate, rootfs)
    expect(result.changes).toEqual(
      expect.arrayContaining(['added /added', 'deleted /etc/group', 'added /copied', 'added /home/x']),
    )
    const lines = String(result.output)
      .split('\n')
      .filter((line) => line !== '')
    expect(lines.slice(0, 2)).toEqual(['new', 'from the host'])
    expect(result.owner).toBe(owner)
    expect(lines).not.toContain('group')
    expect(lines).toContain('x')
    expect(result).toMatchObject({ added: 'new\n', back: 'from the host', layers: 1 })
    expect(Number(result.exported)).toBeGreaterThan(500_000)
  })
})
