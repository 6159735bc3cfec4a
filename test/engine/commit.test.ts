import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import {
  type Container,
  type FileChange,
  InvalidArgumentError,
  InvalidReferenceError,
  NotFoundError,
} from '../../src/index.ts'
import { tar } from '../layer/support/tar.ts'
import { hasTools } from '../store/support/tools.ts'
import { busyboxImage, cannotRunAsRoot } from './support/busybox.ts'
import { filesOf } from './support/merged.ts'
import { Sandbox } from './support/sandbox.ts'

const missing = cannotRunAsRoot ?? (hasTools('unshare', 'skopeo') ? undefined : 'needs unshare and skopeo')

const upper = tar(
  { name: 'data/', type: '5', mode: 0o755 },
  { name: 'data/kept', content: 'kept', mtime: 5 },
  { name: 'data/changed', content: 'old' },
  { name: 'data/removed', content: 'gone' },
  { name: 'data/emptied/', type: '5', mode: 0o755 },
  { name: 'data/emptied/old', content: 'old' },
)

const script = [
  'cd /data && echo new > changed && rm removed && rm -r emptied && mkdir emptied && echo fresh > emptied/fresh',
  'echo added > /added && ln /added /hard && ln -s /added /soft && chown 1000:50 /added && chmod 4755 /bin/busybox',
  'mkfifo /fifo',
].join(' && ')

async function changesOf(container: Container): Promise<readonly string[]> {
  const changes: FileChange[] = []
  for await (const change of container.diff()) changes.push(change)
  return changes.map(({ kind, path }) => `${kind} ${path}`)
}

describe.skipIf(missing)(`a container becomes an image (${missing ?? 'real ones'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.prepare()
    await sandbox.put('changing', busyboxImage({ layers: [upper], config: { Env: ['PATH=/bin'], Labels: { a: 'b' } } }))
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  const changed = async (options = {}): Promise<Container> => {
    const box = await sandbox.engine.run('changing', {
      command: ['sh', '-c', script],
      pull: 'never',
      cgroupsPath: sandbox.cgroup(),
      ...options,
    })
    expect((await box.exited).code).toBe(0)
    return box
  }

  it('with what it has changed, which diff tells', async () => {
    await using box = await changed()
    expect(await changesOf(box)).toEqual([
      'added /added',
      'changed /bin',
      'changed /bin/busybox',
      'changed /data',
      'changed /data/changed',
      'changed /data/emptied',
      'deleted /data/emptied/old',
      'added /data/emptied/fresh',
      'deleted /data/removed',
      'added /fifo',
      'added /hard',
      'added /soft',
    ])
    const image = await sandbox.engine.commit(box, {
      name: 'committed:1',
      author: 'somebody',
      message: 'as it was',
      changes: ['CMD ["cat", "/added"]', 'ENV A=1 PATH=/data:$PATH', 'LABEL c=d'],
    })
    expect(image.reference).toBe('docker.io/library/committed:1')
    expect(image.config).toMatchObject({
      author: 'somebody',
      config: { Cmd: ['cat', '/added'], Env: ['PATH=/data:/bin', 'A=1'], Labels: { a: 'b', c: 'd' } },
    })
    expect(image.manifest.layers).toHaveLength(3)
    const history = await sandbox.engine.history(image)
    expect(history.at(-1)).toMatchObject({ comment: 'as it was', author: 'somebody', createdBy: 'oci-ts commit' })
    expect(history.at(-1)?.layer?.descriptor).toEqual(image.manifest.layers[2])

    const files = await filesOf(sandbox, image)
    expect(files.added).toMatchObject({ owner: '1000:50', link: 'added', size: 6n })
    expect(files.hard).toEqual(files.added)
    expect(files['bin/busybox']?.mode).toBe('104755')
    expect(
      Object.keys(files)
        .filter((path) => path.startsWith('data/'))
        .sort(),
    ).toEqual(['data/changed', 'data/emptied', 'data/emptied/fresh', 'data/kept'])
    await using again = await sandbox.engine.run('committed:1', { cgroupsPath: sandbox.cgroup() })
    const lines: string[] = []
    for await (const { text } of again.logs({ follow: true })) lines.push(text)
    expect(lines).toEqual(['added'])
    expect(await changesOf(again)).toEqual([])
  })

  it('always with the same layer, and with a fixed time the same image', async () => {
    await using box = await changed()
    const created = new Date('2001-02-03T04:05:06Z')
    const [one, two] = [await sandbox.engine.commit(box, { created }), await sandbox.engine.commit(box, { created })]
    expect(two.digest).toBe(one.digest)
    expect(one.config.created).toBe('2001-02-03T04:05:06.000Z')
    const { added, ...files } = await filesOf(sandbox, one)
    expect(added?.mtime).toBe(BigInt(created.getTime()) * 1_000_000n)
    expect(files['data/kept']?.mtime).toBe(5_000_000_000n)
    const now = await sandbox.engine.commit(box)
    expect(now.digest).not.toBe(one.digest)
    const [third, fourth] = [now, await sandbox.engine.commit(box)].map(({ manifest }) => manifest.layers.at(-1))
    expect(fourth).toEqual(third)
  })

  it('takes the time of the environment', async () => {
    await using box = await changed()
    process.env.SOURCE_DATE_EPOCH = '1000'
    try {
      expect((await sandbox.engine.commit(box)).config.created).toBe('1970-01-01T00:16:40.000Z')
      process.env.SOURCE_DATE_EPOCH = 'yesterday'
      await expect(sandbox.engine.commit(box)).rejects.toThrow(InvalidArgumentError)
    } finally {
      delete process.env.SOURCE_DATE_EPOCH
    }
  })

  it.each([true, false])('while it runs, standing still or not: %s', async (pause) => {
    await using box = await sandbox.run(['sh', '-c', 'while :; do echo $((i=i+1)) > /count; usleep 1000; done'], {
      name: `counting-${pause}`,
    })
    const image = await sandbox.engine.commit(box, { pause, compression: 'none' })
    expect((await filesOf(sandbox, image)).count?.type).toBe('file')
    // It goes on: more is in the file than in the image.
    const count = async (): Promise<number> => {
      const target = join(sandbox.directory, 'count')
      for (;;) {
        await box.copyOut('/count', target)
        const text = readFileSync(target, 'latin1')
        // It may be copied in the middle of being written anew.
        if (/^\d+\n$/.test(text)) return Number(text)
      }
    }
    const seen = await count()
    await expect.poll(count, { timeout: 10_000 }).toBeGreaterThan(seen)
  })

  it('when it is detached, by another handle', async () => {
    await using box = await changed({ detach: true, name: 'committed-detached' })
    const handle = await sandbox.engine.attach('committed-detached')
    const image = await sandbox.engine.commit(handle)
    expect((await filesOf(sandbox, image)).added?.size).toBe(6n)
    expect(await changesOf(handle)).toContain('added /added')
    expect(handle.id).toBe(box.id)
  })

  it.each([false, true])('with what was given to run, as Docker has it; detached: %s', async (detach) => {
    await using box = await sandbox.engine.run('changing', {
      entrypoint: ['/bin/sh', '-c'],
      command: ['true'],
      env: { A: '1=2', PATH: '/bin:/data', GONE: undefined },
      user: '1000:50',
      workingDir: '/data',
      stopSignal: 'SIGINT',
      mounts: [{ type: 'volume', target: '/anonymous' }],
      detach,
      pull: 'never',
      cgroupsPath: sandbox.cgroup(),
    })
    await box.exited
    const same = detach ? await sandbox.engine.attach(box.id) : box
    const image = await sandbox.engine.commit(same, { changes: ['LABEL c=d'] })
    expect(image.config.config).toEqual({
      Entrypoint: ['/bin/sh', '-c'],
      Cmd: ['true'],
      Env: ['PATH=/bin:/data', 'A=1=2'],
      User: '1000:50',
      WorkingDir: '/data',
      StopSignal: 'SIGINT',
      Volumes: { '/anonymous': {} },
      Labels: { a: 'b', c: 'd' },
    })
    expect(box.image.config.config?.Env).toEqual(['PATH=/bin'])
  })

  it('without the command of the image when another entrypoint was given', async () => {
    const command = { config: { Cmd: ['of', 'the image'], Entrypoint: ['/bin/echo'], Env: ['PATH=/bin', 'B=1'] } }
    await sandbox.put('commanding', busyboxImage(command))
    const options = { pull: 'never', cgroupsPath: sandbox.cgroup() } as const
    const given = [{ entrypoint: ['/bin/true'] }, { command: ['mine'] }, { env: { B: null, C: 'x' } }]
    const configs: unknown[] = []
    for (const each of given) {
      await using box = await sandbox.engine.run('commanding', { ...options, ...each })
      await box.exited
      configs.push((await sandbox.engine.commit(box)).config.config)
    }
    const { config } = command
    const { Cmd: _, ...others } = config
    expect(configs).toEqual([
      { ...others, Entrypoint: ['/bin/true'] },
      { ...config, Cmd: ['mine'] },
      { ...config, Env: ['PATH=/bin', 'C=x'] },
    ])
  })

  it('fails before anything is done for what can not be', async () => {
    await using box = await changed()
    const store = await sandbox.engine.store()
    const before = await store.images()
    await expect(sandbox.engine.commit(box, { changes: ['RUN x'] })).rejects.toThrow(InvalidArgumentError)
    await expect(sandbox.engine.commit(box, { name: 'Not a name' })).rejects.toThrow(InvalidReferenceError)
    await expect(sandbox.engine.commit(box, { name: `x@sha256:${'0'.repeat(64)}` })).rejects.toThrow(
      InvalidArgumentError,
    )
    await expect(sandbox.engine.commit(box, { created: new Date('never') })).rejects.toThrow(InvalidArgumentError)
    const reason = new Error('enough')
    await expect(sandbox.engine.commit(box, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason)
    expect(await store.images()).toEqual(before)
  })

  it('fails when it has been removed', async () => {
    const box = await changed()
    await box.remove()
    await expect(sandbox.engine.commit(box)).rejects.toThrow(NotFoundError)
    await expect(changesOf(box)).rejects.toThrow(NotFoundError)
  })

  it('and its parts are no garbage, while an image without a name is', async () => {
    await using box = await changed()
    const image = await sandbox.engine.commit(box)
    const store = await sandbox.engine.store()
    const [, , layer] = image.manifest.layers
    const blob = join(sandbox.root, 'content/blobs', (layer?.digest ?? '').replace(':', '/'))
    expect(existsSync(blob)).toBe(true)
    const { images } = await store.prune()
    expect(images.map(({ digest }) => digest)).toContain(image.digest)
    expect(existsSync(blob)).toBe(false)
  })
})
