import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { copy } from '../../src/content/copy.ts'
import { LayoutStore } from '../../src/content/layout.ts'
import { readAll } from '../../src/content/verify.ts'
import { parseImageConfig, parseManifest } from '../../src/image/index.ts'
import { openStore } from '../../src/store/index.ts'
import { busyboxLayer, cannotRunAsRoot } from '../engine/support/busybox.ts'
import { Scratch } from '../layer/support/apply.ts'
import { debianArchive } from '../layer/support/debian.ts'
import { merge } from '../layer/support/diff.ts'
import { type TreeEntry, tree } from '../layer/support/tree.ts'
import { image, put } from './support/image.ts'
import { hasTools } from './support/tools.ts'

const tools = ['umoci', 'podman', 'skopeo', 'buildah', 'python3', 'tar', 'unshare']
const missing = cannotRunAsRoot ?? (hasTools(...tools) ? undefined : `needs ${tools.join(', ')}`)

/** Of these tests. */
const began = BigInt(Date.now()) * 1_000_000n

const scratch = new Scratch()
// A Debian system has many files.
afterAll(() => scratch.clean(), 300_000)

/** A layout with an image `x` of one archive. */
async function layoutOf(archive: Buffer): Promise<string> {
  const layout = join(scratch.directory(), 'layout')
  const history = [{ created_by: 'made by hand' }]
  await put(await LayoutStore.create(layout), image([archive], {}, { history }), 'x')
  return layout
}

function run(
  program: string,
  args: readonly string[],
  options: { readonly cwd?: string; readonly env?: object } = {},
): void {
  execFileSync(program, args, {
    stdio: ['ignore', 'ignore', 'pipe'],
    ...options,
    env: { ...process.env, ...options.env },
  })
}

/** A tree with what the formats of tar differ in. */
function makeTree(): string {
  const root = scratch.directory()
  const script = [
    'mkdir -p bin d/e/f tmp && chmod 1777 tmp && chmod 2755 bin',
    'echo su > bin/su && chmod 4755 bin/su && ln bin/su bin/hard && ln -s bin/su soft && ln -s /no/where dangling',
    'mkfifo fifo && mknod null c 1 3 && mknod loop b 7 0 && chown 1000:50 d && chown 70000:70000 d/e',
    'echo x > "d/e/$(printf "n%.0s" $(seq 90))" && echo y > "d/e/f/name with blanks"',
    'truncate -s 3000000 sparse && printf middle | dd of=sparse bs=1 seek=1500000 conv=notrunc status=none',
    'touch -d "2001-02-03 04:05:06" bin/su d/e && touch -h -d "1999-01-01" soft && touch empty',
  ].join(' && ')
  run('sh', ['-ec', script], { cwd: root })
  return root
}

const gnu = (...options: readonly string[]) => {
  return async (root: string): Promise<string> => {
    const path = join(scratch.directory(), 'a.tar')
    run('tar', ['-cf', path, '--numeric-owner', '--sort=name', ...options, '-C', root, '.'])
    return layoutOf(readFileSync(path))
  }
}

const python = (format: string) => {
  return async (root: string): Promise<string> => {
    const path = join(scratch.directory(), 'a.tar')
    const script = `import sys, tarfile; t = tarfile.open(sys.argv[1], "w", format=tarfile.${format}); t.add(sys.argv[2], "."); t.close()`
    run('python3', ['-c', script, path, root])
    return layoutOf(readFileSync(path))
  }
}

const changes = [
  'echo added > /added && ln /added /linked && ln -s added /soft && mkfifo /pipe',
  'rm /bin/zcat && mkdir /bin/zcat && echo now > /bin/zcat/file',
  'rm -r /home && mkdir /home && echo fresh > /home/fresh',
  'chmod 4755 /bin/busybox && chown 12:34 /etc && chmod 700 /root && touch -d @77 /added',
  'mkdir -p /deep/er && rm -r /deep && echo file > /deep && mv /tmp /moved && mkdir /tmp',
].join(' && ')

/** Every kind of change by a RUN, by buildah; more than one layer. */
async function byBuildah(): Promise<string> {
  const base = await layoutOf(busyboxLayer())
  const layout = join(scratch.directory(), 'layout')
  const home = scratch.directory()
  const file = join(scratch.directory(), 'Dockerfile')
  const lines = [
    'FROM localhost/base:1',
    `RUN ${changes}`,
    'RUN rm /linked && echo again >> /added',
    'COPY Dockerfile /copied/',
  ]
  writeFileSync(file, `${lines.join('\n')}\n`)
  const [graph, state] = [join(home, 'root'), join(home, 'run')]
  const storage = ['--root', graph, '--runroot', state, '--storage-driver', 'vfs']
  run('skopeo', ['copy', '--quiet', `oci:${base}:x`, `containers-storage:[vfs@${graph}+${state}]localhost/base:1`])
  const build = [
    'bud',
    '--isolation',
    'chroot',
    '--network',
    'host',
    '--pull-never',
    '--layers',
    '-t',
    'localhost/built:1',
  ]
  run('buildah', [...storage, ...build, '-f', file, join(file, '..')])
  run('buildah', [...storage, 'push', '--quiet', 'localhost/built:1', `oci:${layout}:x`])
  return layout
}

/** A change that umoci made a layer of. */
async function byUmoci(root: string): Promise<string> {
  const layout = await gnu('--format=posix')(root)
  const bundle = join(scratch.directory(), 'bundle')
  run('umoci', ['unpack', '--image', `${layout}:x`, bundle])
  run(
    'sh',
    [
      '-ec',
      'rm -r d/e && echo new > d/new && rm soft && mkdir soft && echo in > soft/in && chmod 600 empty && rm bin/hard',
    ],
    {
      cwd: join(bundle, 'rootfs'),
    },
  )
  run('umoci', ['repack', '--image', `${layout}:x`, bundle])
  return layout
}

async function bySkopeo(root: string, ...options: readonly string[]): Promise<string> {
  const from = await gnu('--format=gnu')(root)
  const [between, to] = [join(scratch.directory(), 'dir'), join(scratch.directory(), 'layout')]
  run('skopeo', ['copy', '--quiet', '--format', 'v2s2', `oci:${from}:x`, `dir:${between}`])
  run('skopeo', ['copy', '--quiet', ...options, `dir:${between}`, `oci:${to}:x`])
  return to
}

async function byMmdebstrap(): Promise<string | undefined> {
  const archive = await debianArchive()
  return archive === undefined ? undefined : layoutOf(readFileSync(archive))
}

/** Podman gives the root no attributes, and directories that no entry names the time at which they were made. */
function asPodman({ '.': _, ...entries }: Record<string, TreeEntry>): Record<string, unknown> {
  const isUnnamed = ({ type, mtime }: TreeEntry): boolean => type === 'directory' && (mtime === 0n || mtime > began)
  return Object.fromEntries(
    Object.entries(entries).map(([name, entry]) => [name, isUnnamed(entry) ? { ...entry, mtime: 0n } : entry]),
  )
}

/** Undefined where an image can't be made here. */
type Maker = (root: string) => Promise<string | undefined>

const images: readonly (readonly [string, Maker])[] = [
  [
    'GNU tar, V7 format',
    gnu('--format=v7', '--exclude=./d/e', '--exclude=./null', '--exclude=./loop', '--exclude=./fifo'),
  ],
  ['GNU tar, old GNU format', gnu('--format=oldgnu')],
  ['GNU tar, GNU format', gnu('--format=gnu')],
  ['GNU tar, ustar format', gnu('--format=ustar')],
  ['GNU tar, PAX format', gnu('--format=posix')],
  ['GNU tar, PAX format, sparse 0.0', gnu('--format=posix', '--sparse', '--sparse-version=0.0')],
  ['GNU tar, PAX format, sparse 0.1', gnu('--format=posix', '--sparse', '--sparse-version=0.1')],
  ['GNU tar, PAX format, sparse 1.0', gnu('--format=posix', '--sparse', '--sparse-version=1.0')],
  ['Python, PAX format', python('PAX_FORMAT')],
  ['Python, GNU format', python('GNU_FORMAT')],
  ['buildah, with every kind of change', byBuildah],
  ['umoci, after a repack', byUmoci],
  ['skopeo, by way of the format of Docker', bySkopeo],
  ['mmdebstrap: a Debian system', byMmdebstrap],
]

describe.skipIf(missing)(`an image made by (${missing ?? 'compared with umoci'})`, () => {
  let root: string
  beforeAll(() => {
    root = makeTree()
  })

  /** The files of the image, as overlayfs shows our layers. */
  async function ours(path: string): Promise<Record<string, TreeEntry>> {
    const store = await openStore({ root: join(scratch.directory(), 'store'), durability: 'none' })
    const descriptor = await copy(await LayoutStore.open(path), 'x', store)
    const manifest = parseManifest(await readAll(store, descriptor, 2 ** 20), descriptor.mediaType).value
    const config = parseImageConfig(await readAll(store, manifest.config, 2 ** 20)).value
    const { layers } = await store.unpack(manifest, config)
    const found = tree(merge(scratch, layers))
    expect(Object.keys(found).length).toBeGreaterThan(5)
    return found
  }

  const each = it.each(images)
  each('%s comes out as umoci unpacks it, in every attribute', { timeout: 240_000 }, async (_, make) => {
    const path = await make(root)
    if (path === undefined) return
    const bundle = join(scratch.directory(), 'bundle')
    run('umoci', ['unpack', '--image', `${path}:x`, bundle])
    expect(await ours(path)).toEqual(tree(join(bundle, 'rootfs')))
  })

  each('%s comes out as podman mounts it, in every attribute', { timeout: 240_000 }, async (_, make) => {
    const path = await make(root)
    if (path === undefined) return
    const home = scratch.directory()
    const [graph, state] = [join(home, 'root'), join(home, 'run')]
    const storage = ['--root', graph, '--runroot', state, '--storage-driver', 'overlay']
    // It takes the path for a name, which has no capital letters.
    const podman = (...args: readonly string[]): string =>
      execFileSync('podman', [...storage, ...args], { cwd: join(path, '..'), encoding: 'utf8', stdio: 'pipe' }).trim()
    try {
      const id = podman('pull', '--quiet', `oci:${basename(path)}:x`)
      expect(asPodman(await ours(path))).toEqual(asPodman(tree(podman('image', 'mount', id))))
      podman('image', 'unmount', '--force', id)
    } finally {
      // It keeps its store mounted on itself.
      execFileSync('sh', ['-c', 'umount -l "$1" 2>/dev/null || true', 'sh', join(graph, 'overlay')])
    }
  })
})
