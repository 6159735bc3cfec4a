import { execFileSync } from 'node:child_process'
import {
  createReadStream,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { Readable, Writable } from 'node:stream'
import { gzipSync } from 'node:zlib'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { collect } from '../../src/content/verify.ts'
import { ConflictError, type Container, InvalidArgumentError, LayerError, NotFoundError } from '../../src/index.ts'
import { read } from '../layer/support/read.ts'
import { tar } from '../layer/support/tar.ts'
import { tree } from '../layer/support/tree.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { Sandbox } from './support/sandbox.ts'

const layer = tar(
  { name: 'app/', type: '5', mode: 0o755, uid: 1000, gid: 50 },
  { name: 'app/file', content: 'content', mode: 0o640, uid: 1000, gid: 50, mtime: 77 },
  { name: 'app/big', content: 'b'.repeat(3_000_000), mtime: 78 },
  { name: 'app/link', type: '2', linkName: '/etc/shadow' },
  { name: 'app/hard', type: '1', linkName: 'app/file' },
  { name: 'app/sub/', type: '5', mode: 0o711 },
  { name: 'app/sub/deep', content: 'deep' },
  { name: 'out', type: '2', linkName: '/../../../../' },
  { name: 'short', type: '2', linkName: 'app/sub' },
)

describe.skipIf(cannotRunAsRoot)(`files of a container (${cannotRunAsRoot ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
    await sandbox.put('files', busyboxImage({ layers: [layer] }))
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  /** A container that runs, or has ended. */
  const boxed = async (running: boolean): Promise<Container> => {
    const command = running ? ['sleep', '1000'] : ['true']
    const box = await sandbox.engine.run('files', { command, pull: 'never', cgroupsPath: sandbox.cgroup() })
    if (!running) await box.exited
    return box
  }
  const place = (): string => mkdtempSync(join(sandbox.directory, 'place-'))
  const ends: readonly (readonly [string, boolean])[] = [
    ['running', true],
    ['stopped', false],
  ]

  describe.each(ends)('that is %s', (_, running) => {
    it('come out: a file, a directory, what is in it', async () => {
      await using box = await boxed(running)
      const at = place()
      await box.copyOut('/app/file', join(at, 'named'))
      expect(readFileSync(join(at, 'named'), 'utf8')).toBe('content')
      expect(statSync(join(at, 'named'))).toMatchObject({ mode: 0o100640, uid: 0, mtimeMs: 77_000 })
      await box.copyOut('app/file', at, { archive: true })
      expect(statSync(join(at, 'file'))).toMatchObject({ uid: 1000, gid: 50 })
      await box.copyOut('/app', at)
      await box.copyOut('/app', join(at, 'renamed'))
      await box.copyOut('/app/.', at)
      expect(readdirSync(at).sort()).toEqual(['app', 'big', 'file', 'hard', 'link', 'named', 'renamed', 'sub'])
      const [one, two] = [tree(join(at, 'app')), tree(join(at, 'renamed'))]
      expect(Object.keys(one).sort()).toEqual(['.', 'big', 'file', 'hard', 'link', 'sub', 'sub/deep'])
      expect(two).toEqual(one)
      expect(one.hard).toEqual(one.file)
      expect(one.link?.content).toBe('/etc/shadow')
      expect(one.big?.size).toBe(3_000_000n)
    })

    it('come out as a tar archive', async () => {
      await using box = await boxed(running)
      const chunks: Buffer[] = []
      const sink = new Writable({
        write(chunk: Buffer, _encoding, done) {
          chunks.push(chunk)
          done()
        },
      })
      await box.copyOut('/short/', sink)
      expect(read(Buffer.concat(chunks)).map(({ name }) => name.toString())).toEqual(['./', 'deep'])
    })

    it('go in: a file, a directory, what is in it, a tar archive', async () => {
      await using box = await boxed(running)
      const at = place()
      mkdirSync(join(at, 'from/sub'), { recursive: true, mode: 0o755 })
      writeFileSync(join(at, 'from/one'), 'one', { mode: 0o754 })
      writeFileSync(join(at, 'from/sub/two'), 'x'.repeat(200_000))
      symlinkSync('/etc', join(at, 'from/link'))
      await box.copyIn(join(at, 'from/one'), '/tmp')
      await box.copyIn(join(at, 'from/one'), '/tmp/other')
      await box.copyIn(join(at, 'from'), '/app')
      await box.copyIn(join(at, 'from'), '/new')
      await box.copyIn(`${at}/from/.`, '/short')
      await box.copyIn(
        Readable.from([
          gzipSync(tar({ name: 'a/b/c', content: 'abc', uid: 12 }, { name: 'd', type: '1', linkName: 'a/b/c' })),
        ]),
        '/home',
      )
      const out = place()
      for (const path of ['/tmp', '/app', '/new', '/home']) await box.copyOut(path, out, { archive: true })
      expect(readFileSync(join(out, 'tmp/one'), 'utf8')).toBe('one')
      expect(statSync(join(out, 'tmp/other'))).toMatchObject({ mode: 0o100754, uid: 0, gid: 0 })
      expect(tree(join(out, 'app/from'))).toEqual(tree(join(out, 'new')))
      expect(statSync(join(out, 'new/sub/two')).size).toBe(200_000)
      expect(readdirSync(join(out, 'app/sub')).sort()).toEqual(['deep', 'link', 'one', 'sub'])
      expect(statSync(join(out, 'app/sub')).mode).toBe(0o40711)
      expect(statSync(join(out, 'home/a/b/c'))).toMatchObject({ uid: 12, nlink: 2 })
    })

    it('never lead out of the container, nor out of the target', async () => {
      await using box = await boxed(running)
      const at = place()
      const before = readdirSync('/').sort()
      await box.copyOut('/out/etc/passwd', join(at, 'passwd'))
      expect(readFileSync(join(at, 'passwd'), 'utf8')).toContain('user:x:1000')
      writeFileSync(join(at, 'marker'), 'marker')
      await box.copyIn(join(at, 'marker'), '/out/../../../app/../oci-ts-escaped')
      await box.copyIn(join(at, 'marker'), '/out')
      expect(readdirSync('/').sort()).toEqual(before)
      // What is in the way on the host's side is not followed either.
      const target = place()
      const outside = place()
      mkdirSync(join(target, 'app'))
      symlinkSync(outside, join(target, 'app/sub'))
      symlinkSync(join(outside, 'file'), join(target, 'app/file'))
      await box.copyOut('/app', target)
      expect(readdirSync(outside)).toEqual([])
      expect(readFileSync(join(target, 'app/sub/deep'), 'utf8')).toBe('deep')
    })

    it('are all in the archive of its root file system', async () => {
      await using box = await boxed(running)
      const archive = Buffer.from(await collect(await box.exportRootfs()))
      const names = new Set(read(archive).map(({ name }) => name.toString()))
      for (const name of ['./', 'app/file', 'bin/busybox', 'proc/', 'etc/passwd', 'out']) expect(names).toContain(name)
      expect([...names].filter((name) => /^proc\/.|^sys\/./.test(name))).toEqual([])
      const image = await sandbox.engine.importRootfs(Readable.from([archive]), {
        changes: ['CMD ["cat", "/app/file"]'],
      })
      await using again = await sandbox.engine.run(image, { cgroupsPath: sandbox.cgroup() })
      const lines: string[] = []
      for await (const { text } of again.logs({ follow: true })) lines.push(text)
      expect(lines).toEqual(['content'])
    })

    it('fail to be copied, by name, where paths do not fit', async () => {
      await using box = await boxed(running)
      const at = place()
      mkdirSync(join(at, 'directory'))
      writeFileSync(join(at, 'file'), '')
      await expect(box.copyOut('/missing', at)).rejects.toMatchObject({
        code: 'ERR_OCI_NOT_FOUND',
        subject: '/missing',
      })
      await expect(box.copyOut('/missing/x/.', at)).rejects.toThrow(NotFoundError)
      await expect(box.copyOut('/app', join(at, 'file'))).rejects.toThrow(ConflictError)
      await expect(box.copyOut('/app/file', join(at, 'no/such/directory'))).rejects.toThrow(NotFoundError)
      await expect(box.copyOut('', at)).rejects.toThrow(InvalidArgumentError)
      await expect(box.copyIn(join(at, 'missing'), '/tmp')).rejects.toThrow(NotFoundError)
      await expect(box.copyIn(join(at, 'directory'), '/etc/passwd')).rejects.toThrow(ConflictError)
      await expect(box.copyIn(join(at, 'file'), '/no/such/directory')).rejects.toThrow(NotFoundError)
      await expect(box.copyIn(Readable.from([tar({ name: 'x' })]), '/etc/passwd')).rejects.toThrow(ConflictError)
      await expect(box.copyIn(Readable.from([tar({ name: '../x' })]), '/tmp')).rejects.toThrow(LayerError)
      await expect(box.copyIn(Readable.from([Buffer.alloc(600, 'x')]), '/tmp')).rejects.toThrow(LayerError)
    })
  })

  it('are safe from a container that swaps directories and links while they are copied', {
    timeout: 120_000,
  }, async () => {
    const script =
      'mkdir -p /race/real /race/evil; cd /race; while :; do ln -sfn /../../../../../../tmp d; rm d; mv real d; mv d real; done'
    await using box = await sandbox.engine.run('files', {
      command: ['sh', '-c', script],
      pull: 'never',
      cgroupsPath: sandbox.cgroup(),
    })
    const at = place()
    const marker = `oci-ts-race-${sandbox.mark}`
    writeFileSync(join(at, 'f'), 'x')
    const archive = tar({ name: `d/${marker}`, content: 'x' }, { name: `d/sub/${marker}`, content: 'x' })
    const outcomes = new Set<string>()
    for (let round = 0; round < 40; round += 1) {
      const copied = await Promise.allSettled([
        box.copyIn(Readable.from([archive]), '/race'),
        box.copyOut('/race', join(at, `out-${round}`)),
      ])
      for (const { status } of copied) outcomes.add(status)
    }
    expect(outcomes).toContain('fulfilled')
    expect(readdirSync('/tmp').filter((name) => name.includes(marker))).toEqual([])
  })

  it('go through files of the host', async () => {
    await using box = await boxed(false)
    const at = place()
    await box.copyOut('/app', createWriteStream(join(at, 'app.tar')))
    execFileSync('tar', ['-xf', join(at, 'app.tar'), '-C', at])
    expect(tree(join(at, 'app')).file?.owner).toBe('1000:50')
    await box.copyIn(createReadStream(join(at, 'app.tar')), '/tmp')
    await box.copyOut('/tmp/app/sub/deep', join(at, 'deep'))
    expect(readFileSync(join(at, 'deep'), 'utf8')).toBe('deep')
  })
})
