import { execFileSync, spawnSync } from 'node:child_process'
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { Mount } from '../../src/bundle/index.ts'
import { checkpoint, deleteContainer, type RuntimeContainer, restore, Terminal } from '../../src/runtime/index.ts'
import { cannotRun, descriptorSentTo, dockerMounts, Sandbox, specOf, until } from './support.ts'

/** Where the machine has the command line. */
const commandLine = '/app/from-sources.mjs'
const check = spawnSync('criu', ['check'], { encoding: 'utf8' })
const noCriu = cannotRun ?? (check.status === 0 ? undefined : 'needs a CRIU that works with this kernel')

describe.skipIf(cannotRun)(`checkpoint and restore (${cannotRun ?? 'by CRIU'})`, () => {
  let sandbox: Sandbox
  let images: string
  let count = 0
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const newImages = (): string => {
    images = join(sandbox.directory, `images-${++count}`)
    return images
  }
  /** A container that runs. */
  const running = async (container: RuntimeContainer): Promise<RuntimeContainer> => {
    await container.start()
    return container
  }
  /** An image of CRIU with one entry. */
  const imageOf = (magic: number, entry: Buffer): Buffer => {
    const header = Buffer.alloc(12)
    header.writeUInt32LE(0x54564319, 0)
    header.writeUInt32LE(magic, 4)
    header.writeUInt32LE(entry.length, 8)
    return Buffer.concat([header, entry])
  }
  /** A program that stands for CRIU: a shell script. */
  const fake = (script: string): string => {
    const path = join(sandbox.directory, `criu-${++count}`)
    writeFileSync(path, `#!/bin/sh\n${script}\n`, { mode: 0o755 })
    return path
  }

  /** A checkpoint with this note. */
  const noted = (note: string | Buffer): string => {
    const imagePath = newImages()
    mkdirSync(imagePath)
    writeFileSync(join(imagePath, 'oci-ts.json'), note)
    return imagePath
  }

  describe.skipIf(noCriu)(`with CRIU (${noCriu ?? 'which works'})`, () => {
    const counting = (name: string, ...more: readonly Mount[]) => {
      const script = 'n=0; while :; do n=$((n+1)); echo $n >/dev/shm/n; echo $n >/data/n; echo $n; usleep 50000; done'
      const data = join(sandbox.directory, name)
      mkdirSync(data)
      const bound = { destination: '/data', type: 'bind', source: data, options: ['rbind'] }
      const spec = specOf(['sh', '-c', script], { mounts: [...dockerMounts, bound, ...more] })
      const { linux } = spec
      return {
        data,
        spec: { ...spec, linux: { ...linux, maskedPaths: ['/proc/kcore'], readonlyPaths: ['/proc/sys'] } },
      }
    }
    /** Types something at a terminal, and waits until it shows what is expected. */
    const says = async (terminal: Terminal | undefined, typed: string, expected: RegExp): Promise<void> => {
      let shown = ''
      const take = (bytes: Buffer): void => {
        shown += bytes
      }
      terminal?.on('data', take)
      terminal?.write(typed)
      await until(`it shows ${expected}`, () => expected.test(shown))
      terminal?.off('data', take)
    }
    const numberIn = (path: string): number => (existsSync(path) ? Number(readFileSync(path, 'utf8')) : 0)

    it('go on where the container was, also under another id, with its mounts, cgroup and streams', async () => {
      const { data, spec } = counting('whole')
      const output = openSync(join(sandbox.directory, 'output'), 'w')
      const again = join(sandbox.directory, 'again')
      const other = openSync(again, 'w')
      const container = await running(await sandbox.create(spec, { stdio: [undefined, output, output] }))
      const n = join(data, 'n')
      await until('it counts', () => numberIn(n) > 2)
      await container.checkpoint({ imagePath: newImages(), leaveRunning: true })
      const saved = numberIn(n)
      await until('it goes on', () => numberIn(n) > saved + 2)
      expect(container.state.status).toBe('running')

      await container.checkpoint({ imagePath: newImages() })
      const last = numberIn(n)
      expect(await container.exited).toMatchObject({ signal: 'SIGKILL' })
      await container.delete()
      const { bundle, stateRoot } = sandbox
      const id = sandbox.id()
      await using restored = await restore({
        id,
        spec,
        bundle,
        stateRoot,
        imagePath: images,
        stdio: [undefined, other, other],
      })
      expect(restored.state).toMatchObject({ id, status: 'running', pid: restored.pid })
      await until('it counts on', () => numberIn(n) > last + 2)
      const looked = join(sandbox.directory, 'looked')
      const fd = openSync(looked, 'w')
      const script = 'cat /dev/shm/n /proc/self/cgroup; head -c1 /proc/kcore | wc -c; grep /proc/sys /proc/mounts'
      const process = await restored.exec({ args: ['sh', '-c', script] }, { stdio: [undefined, fd, fd] })
      await process.exited
      for (const each of [fd, output, other]) closeSync(each)
      const lines = readFileSync(looked, 'utf8').split('\n')
      expect(Number(lines[0])).toBeGreaterThan(last)
      expect(lines).toContain('0::/')
      expect(lines).toContain('0')
      expect(lines.join()).toMatch(/proc \/proc\/sys proc ro,/)
      expect(Number(readFileSync(again, 'utf8').split('\n')[0])).toBeGreaterThan(saved)
      expect(readFileSync(`/proc/${restored.pid}/cgroup`, 'utf8')).toContain(id)
      restored.kill('KILL')
      expect(await restored.exited).toMatchObject({ signal: 'SIGKILL', code: 137 })
    })

    it('take what an earlier one has saved of the memory', async () => {
      const { spec, data } = counting('parent')
      const container = await running(await sandbox.create(spec))
      await until('it counts', () => numberIn(join(data, 'n')) > 0)
      const first = newImages()
      await checkpoint(container.id, { stateRoot: sandbox.stateRoot, imagePath: first, preDump: true })
      expect(container.state.status).toBe('running')
      const parentPath = `../${first.split('/').at(-1)}`
      await checkpoint(container.id, { stateRoot: sandbox.stateRoot, imagePath: newImages(), parentPath })
      await container.exited
      await container.delete()
      const { bundle, stateRoot } = sandbox
      await using restored = await restore({ id: sandbox.id(), spec, bundle, stateRoot, imagePath: images })
      const now = numberIn(join(data, 'n'))
      await until('it counts on', () => numberIn(join(data, 'n')) > now)
      expect(restored.state.status).toBe('running')
    })

    it('give a container with a terminal another one, which is its controlling terminal and /dev/console', async () => {
      const script = `trap 'echo stopped by a key' INT; stty -echo
        while :; do read line && echo "got $line" && stty size && stty -a | grep -c -- '-echo ' >/dev/console; done`
      const consoleSize = { width: 91, height: 17 }
      const spec = specOf(['sh', '-c', script], { process: { terminal: true, consoleSize } })
      const container = await running(await sandbox.create(spec))
      await says(container.terminal, 'one\n', /got one\r\n17 91\r\n1\r\n/)
      container.terminal?.resize(90, 16)
      await container.checkpoint({ imagePath: newImages() })
      await container.exited
      await container.delete()
      const { bundle, stateRoot } = sandbox
      {
        await using restored = await restore({ id: sandbox.id(), spec, bundle, stateRoot, imagePath: images })
        await says(restored.terminal, 'two\n', /got two\r\n16 90\r\n1\r\n/)
        await says(restored.terminal, '\x03', /stopped by a key/)
        restored.terminal?.resize(80, 24)
        await says(restored.terminal, 'three\n', /got three\r\n24 80\r\n1\r\n/)
        restored.kill('KILL')
        await restored.exited
      }

      writeFileSync(join(bundle, 'config.json'), JSON.stringify(spec))
      const path = join(sandbox.directory, 'console.sock')
      const id = sandbox.id()
      const options = ['--console-socket', path, '--image-path', images, '--bundle', bundle, '--detach']
      const restored = [commandLine, '--root', stateRoot, 'restore', ...options, id]
      const { fd } = await descriptorSentTo(path, async () => execFileSync(process.execPath, restored))
      const terminal = new Terminal(fd)
      await says(terminal, 'four\n', /got four\r\n16 90\r\n1\r\n/)
      await deleteContainer(id, { stateRoot, force: true })
      terminal.destroy()
    })

    it('say what CRIU says when it can not, and leave nothing', async () => {
      const { spec } = counting('failing')
      const container = await running(await sandbox.create(spec))
      await container.checkpoint({ imagePath: newImages() })
      const { bundle, stateRoot } = sandbox
      const empty = { ...spec, root: { path: 'other' } }
      mkdirSync(join(bundle, 'other'))
      const failed = restore({ id: sandbox.id(), spec: empty, bundle, stateRoot, imagePath: images })
      await expect(failed).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'restore the container' })
    })
  })

  it('tell that CRIU is missing', async () => {
    const container = await running(await sandbox.create(specOf(['sleep', '1000'])))
    const failed = container.checkpoint({ imagePath: newImages(), criu: '/no/criu' })
    await expect(failed).rejects.toMatchObject({
      code: 'ERR_OCI_UNSUPPORTED',
      reason: expect.stringMatching('not installed'),
    })
    expect(container.state.status).toBe('running')
  })

  it('tell why CRIU does not work here, and what it could not do where it works', async () => {
    const container = await running(await sandbox.create(specOf(['sleep', '1000'])))
    const broken = fake('echo "Error (criu/vdso.c:613): vdso: nothing there" >&2; exit 1')
    const unsupported = container.checkpoint({ imagePath: newImages(), criu: broken })
    await expect(unsupported).rejects.toMatchObject({
      code: 'ERR_OCI_UNSUPPORTED',
      reason: expect.stringMatching('vdso'),
    })
    const working = fake(
      `[ "$1" = check ] && exit 0; cd "$5"; echo "(0.1) Error (criu/sk.c:1): a socket" > dump.log; exit 1`,
    )
    const failed = container.checkpoint({ imagePath: newImages(), criu: working })
    await expect(failed).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      message: expect.stringMatching(/CRIU could not save the container: a socket/),
      hint: expect.stringContaining('dump.log'),
    })
    expect(container.state.status).toBe('running')
  })

  it('hand CRIU the options, and the mounts and streams that lead out', async () => {
    const data = join(sandbox.directory, 'bound')
    mkdirSync(data)
    const bound = { destination: '/data', type: 'bind', source: data, options: ['bind'] }
    const container = await running(
      await sandbox.create(specOf(['sleep', '1000'], { mounts: [...dockerMounts, bound] })),
    )
    const told = join(sandbox.directory, 'told')
    const files = join(sandbox.directory, 'files')
    // One regular file outside of the container: id 1, flags, position, owner, name, mount, size, external, mode.
    const inner = Buffer.from(
      '080110011801' + '2a00' + '320466642f31' + '3832' + '404b' + '4801' + '50a483' + '02',
      'hex',
    )
    const message = Buffer.concat([Buffer.from([0x08, 1, 0x10, 3, 0x1a, inner.length]), inner])
    writeFileSync(files, imageOf(0x56303138, message))
    // The first process, which is to get SIGKILL when its parent ends.
    const core = join(sandbox.directory, 'core')
    writeFileSync(core, imageOf(0x55053847, Buffer.from('0801' + '2a04' + '0800' + '4009', 'hex')))
    const imagePath = newImages()
    await container.checkpoint({
      ...{
        imagePath,
        workPath: join(sandbox.directory, 'work'),
        leaveRunning: true,
        criu: fake(`echo "$@" > ${told}; cp ${files} $5/files.img; cp ${core} $5/core-1.img`),
      },
      ...{ tcpEstablished: true, externalUnixSockets: true, shellJob: true, fileLocks: true, autoDedup: true },
      ...{ manageCgroups: 'strict', emptyNamespaces: ['network'], parentPath: '../first', pageServer: '10.0.0.1:99' },
    })
    const text = readFileSync(told, 'utf8')
    for (const part of [
      `dump --tree ${container.pid} --images-dir ${imagePath} --work-dir ${sandbox.directory}/work`,
      '--manage-cgroups=strict --tcp-established --ext-unix-sk --shell-job --file-locks --auto-dedup --empty-ns net',
      '--track-mem --prev-images-dir ../first --leave-running --page-server --address 10.0.0.1 --port 99',
      `--root ${sandbox.rootfs}`,
      '--external mnt[/data]:/data',
      '--external file[',
    ]) {
      expect(text).toContain(part)
    }
    expect(text).not.toContain('mnt[/dev')
    // CRIU would compare size and mode with those of another file.
    const kept = readFileSync(join(imagePath, 'files.img'))
    expect(kept.subarray(12).toString('hex')).toBe(`080110031a1b0801100118${'ff'.repeat(9)}012a00320466642f3138324801`)
    expect(kept.readUInt32LE(8)).toBe(kept.length - 12)
    expect(readFileSync(join(imagePath, 'core-1.img')).subarray(12).toString('hex')).toBe('08012a020800')
    const note = JSON.parse(readFileSync(join(imagePath, 'oci-ts.json'), 'utf8'))
    expect(note.mounts).toContainEqual({ point: '/data', destination: '/data' })
  })

  it('refuse a container that does not run, or has the mounts of the host, and what is no checkpoint', async () => {
    const { bundle, stateRoot } = sandbox
    const spec = specOf(['sleep', '1000'])
    const container = await sandbox.create(spec)
    const stopped = container.checkpoint({ imagePath: newImages() })
    await expect(stopped).rejects.toMatchObject({ code: 'ERR_OCI_CONFLICT' })
    const criu = fake('exit 0')
    const common = { id: sandbox.id(), bundle, stateRoot, imagePath: images, criu }
    await expect(restore({ ...common, spec })).rejects.toMatchObject({ code: 'ERR_OCI_NOT_FOUND', subject: images })
    const namespaces = (spec.linux?.namespaces ?? []).filter(({ type }) => type !== 'mount')
    const without = { ...spec, linux: { ...spec.linux, namespaces } }
    await expect(restore({ ...common, spec: without })).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED' })
  })

  it('leave nothing of a container that could not be restored', async () => {
    const { bundle, stateRoot } = sandbox
    const imagePath = noted(JSON.stringify({ streams: [], mounts: [{ point: '/data', destination: '/data' }] }))
    const criu = fake('[ "$1" = check ] && exit 0; exit 1')
    const common = { id: sandbox.id(), bundle, stateRoot, imagePath, criu }
    const without = restore({ ...common, spec: specOf(['true']) })
    await expect(without).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', subject: 'the mount on /data' })
    const bound = { destination: '/data', type: 'bind', source: sandbox.directory, options: ['bind'] }
    const failed = restore({ ...common, spec: specOf(['true'], { mounts: [...dockerMounts, bound] }) })
    await expect(failed).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME', step: 'restore the container' })
    expect(execFileSync('mount', { encoding: 'utf8' })).not.toContain(sandbox.rootfs)
  })

  describe('what was noted by nobody who has made a checkpoint', () => {
    const modes = Buffer.alloc(36).toString('base64')
    const terminal = { name: 'tty[8803:19]', modes, columns: 80, rows: 24 }
    const whole = { streams: [null, 'pipe:[17]', 'file[1a:2b]'], mounts: [], terminal }
    const other = (changes: object): string => JSON.stringify({ ...whole, ...changes })
    const mount = (point: unknown, destination?: unknown): string => other({ mounts: [{ point, destination }] })

    it.each([
      ['a part', other({}).slice(0, 40), ''],
      ['no text', Buffer.from([0xff, 0xfe]), ''],
      ['null', 'null', ''],
      ['a list', '[]', ''],
      ['no streams', other({ streams: undefined }), '/streams'],
      ['four streams', other({ streams: [null, null, null, null] }), '/streams'],
      ['a number as stream', other({ streams: [1] }), '/streams'],
      ['a file by name as stream', other({ streams: ['/etc/shadow'] }), '/streams'],
      ['no mounts', other({ mounts: { length: 1 } }), '/mounts'],
      ['a mount of nothing', other({ mounts: [null] }), '/mounts/0'],
      ['a mount on a relative path', mount('data'), '/mounts/0'],
      ['a mount by a way around', mount('/dev/../etc'), '/mounts/0'],
      ['a mount on a path with NUL', mount('/data\0'), '/mounts/0'],
      ['a mount on a long path', mount(`/${'a'.repeat(5000)}`), '/mounts/0'],
      ['a destination that is none', mount('/data', 1), '/mounts/0'],
      ['a terminal that is none', other({ terminal: true }), '/terminal'],
      ['a terminal of another name', other({ terminal: { ...terminal, name: 'x]:y' } }), '/terminal'],
      ['modes of a part', other({ terminal: { ...terminal, modes: 'AAAA' } }), '/terminal'],
      ['columns that are none', other({ terminal: { ...terminal, columns: '80' } }), '/terminal'],
      ['rows of more than 16 bits', other({ terminal: { ...terminal, rows: 65_536 } }), '/terminal'],
    ])('is told where: %s', async (_, note, pointer) => {
      const { bundle, stateRoot } = sandbox
      const restored = restore({
        ...{ id: sandbox.id(), spec: specOf(['true']), bundle, stateRoot },
        ...{ imagePath: noted(note), criu: fake('[ "$1" = check ]') },
      })
      const issues = [{ pointer, message: expect.any(String) }]
      await expect(restored).rejects.toMatchObject({ code: 'ERR_OCI_SPEC', issues })
    })

    it('is not read to its end when it has none, nor waited for', async () => {
      const { bundle, stateRoot } = sandbox
      const common = { id: sandbox.id(), spec: specOf(['true']), bundle, stateRoot, criu: fake('[ "$1" = check ]') }
      const large = noted('')
      truncateSync(join(large, 'oci-ts.json'), 1 << 30)
      await expect(restore({ ...common, imagePath: large })).rejects.toMatchObject({ code: 'ERR_OCI_LIMIT' })
      const fifo = newImages()
      mkdirSync(fifo)
      execFileSync('mkfifo', [join(fifo, 'oci-ts.json')])
      await expect(restore({ ...common, imagePath: fifo })).rejects.toMatchObject({ code: 'ERR_OCI_SPEC' })
    })

    it('gets no device of the host that the config does not name', async () => {
      const { bundle, stateRoot } = sandbox
      const common = { id: sandbox.id(), spec: specOf(['true']), bundle, stateRoot, criu: fake('[ "$1" = check ]') }
      const mounts = [{ point: '/dev/sda' }]
      const restored = restore({ ...common, imagePath: noted(JSON.stringify({ streams: [], mounts })) })
      await expect(restored).rejects.toMatchObject({ code: 'ERR_OCI_UNSUPPORTED', subject: 'the mount on /dev/sda' })
    })
  })
})
