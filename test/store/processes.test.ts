import { execFileSync, spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, it } from 'vitest'
import { openStore } from '../../src/store/index.ts'
import { isRoot } from '../layer/support/apply.ts'
import { type TestEntry, tar } from '../layer/support/tar.ts'
import { tree, xattrs } from '../layer/support/tree.ts'
import { image, put, type TestImage } from './support/image.ts'
import { killRounds } from './support/kill.ts'
import { startWorker } from './support/process.ts'
import { hasTools } from './support/tools.ts'

const scratch = mkdtempSync(join(tmpdir(), 'oci-ts-processes-'))
// An ordinary user has to reach the store that is made for them.
chmodSync(scratch, 0o755)
afterAll(() => rmSync(scratch, { recursive: true, force: true }))

const project = fileURLToPath(new URL('../..', import.meta.url))
const worker = fileURLToPath(new URL('support/worker.ts', import.meta.url))

/** An image of three layers with many small files. */
function manyFiles(files: number): TestImage {
  const layer = (n: number): Buffer =>
    tar(
      ...Array.from({ length: files }, (_, i): TestEntry => ({ name: `l${n}/d${i % 9}/f${i}`, content: `${n} ${i}` })),
    )
  return image([layer(0), layer(1), layer(2)])
}

describe('several processes on one store', () => {
  it('unpack each layer once, and all get the same', { timeout: 120_000 }, async () => {
    const root = join(scratch, 'together')
    await put(await openStore({ root }), manyFiles(200), 'image')
    const results = await Promise.all(Array.from({ length: 4 }, () => startWorker(root, 'image').result))
    expect(results.reduce((sum, each) => sum + (each?.started ?? 0), 0)).toBe(3)
    expect(new Set(results.map((each) => JSON.stringify(each?.layers))).size).toBe(1)
    expect(results[0]?.layers).toHaveLength(3)
    expect(readdirSync(join(root, 'tmp'))).toEqual([])
  })

  it('may be killed at any moment: the next one works', { timeout: 240_000 }, async () => {
    await killRounds(join(scratch, 'killed'), 25)
  })
})

describe.skipIf(!isRoot || !hasTools('unshare'))('a full disk (skipped without root: needs a small tmpfs)', () => {
  it('ends in ENOSPC and leaves the store as it was', { timeout: 60_000 }, async () => {
    const seed = join(scratch, 'seed')
    const content = Buffer.alloc(3_000_000, 'x')
    const names = Array.from({ length: 3 }, (_, i): TestEntry => ({ name: `big${i}`, content }))
    await put(await openStore({ root: seed }), image([tar({ name: 'small' }), tar(...names)]), 'image')
    // The small layer may come first and stay: it is complete.
    const script = `
      mkdir "$1" && mount -t tmpfs -o size=5m,mode=700 tmpfs "$1" && cp -a "$2/." "$1" || exit 9
      "$3" --import tsx "$4" "$1" image && echo "$(ls "$1/tmp" "$1/content/ingest" | grep -v :)" && ls "$1/layers/sha256" | wc -l
      find "$1" -name 'big*' | wc -l`
    const out = execFileSync(
      'unshare',
      ['-m', 'sh', '-c', script, 'sh', join(scratch, 'small'), seed, process.execPath, worker],
      {
        cwd: project,
        encoding: 'utf8',
      },
    )
    const [, result = '', leftovers, layers, big] = out.trim().split('\n')
    expect(JSON.parse(result)).toMatchObject({ code: 'ERR_OCI_SYSCALL', errno: 'ENOSPC' })
    expect([leftovers, big]).toEqual(['', '0'])
    expect(Number(layers)).toBeLessThan(2)
  })
})

const asNobody = ['setpriv', '--reuid=65534', '--regid=65534', '--clear-groups'] as const
const canBeNobody =
  isRoot &&
  hasTools('setpriv', 'unshare') &&
  spawnSync(asNobody[0], [...asNobody.slice(1), 'unshare', '-Urm', 'test', '-r', worker]).status === 0

describe.skipIf(!canBeNobody)('an ordinary user (skipped without root, setpriv and user namespaces)', () => {
  it('unpacks in a user namespace what unprivileged overlayfs can stack', { timeout: 60_000 }, async () => {
    const root = join(scratch, 'nobody')
    const capability = Buffer.from('0100000200200000000000000000000000000000', 'hex')
    const bottom = tar(
      { name: 'etc/', type: '5', mode: 0o555 },
      { name: 'etc/shadow', content: 'secret', mode: 0, uid: 0, gid: 42 },
      { name: 'home/', type: '5', uid: 1000, gid: 1000, mode: 0o700 },
      { name: 'home/gone', uid: 1000, content: 'gone' },
      { name: 'ping', content: 'x', mode: 0o4755, uid: 5, pax: { 'SCHILY.xattr.security.capability': capability } },
      { name: 'null', type: '3', device: [1, 3] },
      { name: 'opaque/old' },
    )
    const top = tar({ name: 'home/.wh.gone' }, { name: 'opaque/.wh..wh..opq' }, { name: 'opaque/new' })
    await put(await openStore({ root }), image([bottom, top]), 'image')
    execFileSync('chown', ['-R', '65534:65534', root])
    const unpacked = await startWorker(root, 'image', asNobody).result
    expect(unpacked).toMatchObject({ started: 2 })
    const [upper = '', lower = ''] = unpacked?.layers ?? []
    const found = tree(lower)
    for (const entry of Object.values(found)) expect(entry.owner).toBe('65534:65534')
    expect(found['etc/shadow']).toMatchObject({ mode: '100000', size: 6n })
    expect(found.etc?.mode).toBe('40555')
    expect(found.ping?.mode).toBe('104755')
    // Of the third version: it holds in that user namespace only.
    expect(found.ping?.xattrs['security.capability']).toMatch(/^01000003/)
    expect(found.null).toMatchObject({ type: 'file', mode: '100000' })
    expect(statSync(join(upper, 'home/gone')).rdev).toBe(0)
    expect(xattrs(join(upper, 'opaque'))).toEqual({ 'user.overlay.opaque': '79' })

    const script = `mkdir -p "$3" && mount -t overlay overlay -o userxattr,lowerdir="$1:$2" "$3" && cd "$3" && find home opaque | sort`
    const shown = execFileSync(
      asNobody[0],
      [...asNobody.slice(1), 'unshare', '-Urm', 'sh', '-c', script, 'sh', upper, lower, join(root, 'mountpoint')],
      { encoding: 'utf8' },
    )
    expect(shown.trim().split('\n')).toEqual(['home', 'opaque', 'opaque/new'])
  })

  it('is refused the store of root, and root that of an ordinary user; nothing is changed', async () => {
    const root = join(scratch, 'foreign')
    await put(await openStore({ root }), image([tar({ name: 'f' })]), 'image')
    const state = (): string => execFileSync('find', [root, '-printf', '%p %u %m %T@\n'], { encoding: 'utf8' })
    for (const owner of [0, 65534]) {
      execFileSync('chown', ['-R', `${owner}:${owner}`, root])
      const before = state()
      if (owner === 0) {
        const refused = await startWorker(root, 'image', asNobody).result
        expect(refused).toMatchObject({ code: 'ERR_OCI_CONFLICT' })
      } else await expect(openStore({ root })).rejects.toThrow(/belongs to the user with uid 65534, not 0/)
      expect(state()).toBe(before)
    }
    // A directory that somebody else has made is none yet.
    const empty = join(scratch, 'given')
    execFileSync('install', ['-d', '-o', '65534', empty])
    expect((await openStore({ root: empty })).root).toBe(empty)
  })

  it('reclaims what a dead process has left, also where it may not write', { timeout: 60_000 }, async () => {
    const root = join(scratch, 'nobody-dead')
    await put(await openStore({ root }), image([tar({ name: 'f' })]), 'image')
    execFileSync('sh', [
      '-c',
      'mkdir -p "$1/tmp/x/diff/d/e" && chmod 0 "$1/tmp/x/diff/d" && chown -R 65534:65534 "$1"',
      'sh',
      root,
    ])
    expect(await startWorker(root, 'image', asNobody).result).toMatchObject({ started: 1 })
    expect(existsSync(join(root, 'tmp/x'))).toBe(false)
  })
})
