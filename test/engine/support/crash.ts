import { execFileSync } from 'node:child_process'
import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { anonymous, openRepository } from '../../../src/distribution/index.ts'
import { hostPlatform } from '../../../src/image/platform.ts'
import { delay } from '../../../src/internal/abort.ts'
import { createRegistryServer, type RegistryServer } from '../../../src/registry/index.ts'
import type { Store } from '../../../src/store/index.ts'
import { type TestEntry, tar } from '../../layer/support/tar.ts'
import { type CrashWorker, openAfterCrash, startCrashWorker } from '../../store/support/crash.ts'
import { image, put, type TestImage } from '../../store/support/image.ts'
import { busybox } from './busybox.ts'
import { Sandbox } from './sandbox.ts'

const program = fileURLToPath(new URL('crash-worker.ts', import.meta.url))
const filesInVolume = 20

export const archiveOfVolume: Buffer = tar(
  ...Array.from({ length: filesInVolume }, (_, i): TestEntry => ({ name: `f${i}`, content: `${i} `.repeat(500) })),
)

const layerOf = (mark: string): Buffer =>
  tar(
    ...Array.from(
      { length: 30 },
      (_, i): TestEntry => ({ name: `${mark}/f${i}`, content: `${mark} ${i} `.repeat(40) }),
    ),
  )
const pulled: TestImage = image([layerOf('lower'), layerOf('upper')])

/** A store with a container that has ended, a volume, and a registry with an image; each round works on a copy of it. */
export class CrashScene implements AsyncDisposable {
  readonly sandbox: Sandbox = new Sandbox()
  private registry: RegistryServer | undefined
  private container = ''
  private copiedFiles = 0

  async open(): Promise<void> {
    const { sandbox } = this
    this.registry = await createRegistryServer()
    await put(await openRepository(`${this.registry.host}/app`, { credentials: anonymous }), pulled, '1')
    const layer = tar(
      { name: 'bin/busybox', content: busybox(), mode: 0o755 },
      { name: 'base', content: 'base' },
      { name: 'gone', content: 'x' },
    )
    await sandbox.put(
      'boxed',
      image(
        [layer, tar({ name: '.wh.gone' }), layerOf('top')],
        {},
        { architecture: hostPlatform().architecture, config: { Env: ['PATH=/bin'] } },
      ),
    )
    const script =
      'echo new > /new; busybox rm /base; busybox mkdir /many; for i in 1 2 3 4 5 6 7 8 9; do echo $i > /many/$i; done'
    const command = ['busybox', 'sh', '-c', script]
    const box = await sandbox.engine.run('boxed', {
      command,
      detach: true,
      name: 'boxed',
      cgroupsPath: sandbox.cgroup(),
    })
    await box.exited
    this.container = box.id
    await sandbox.engine.volumes.import('kept', archiveOfVolume)
    const store = await sandbox.engine.store()
    const { chainId } = await store.unpack(box.image.manifest, box.image.config)
    const copy = await store.createWritable(chainId, { id: 'reference', rootfs: 'copy' })
    this.copiedFiles = countOf(copy.upper)
    await copy.remove()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await (await this.sandbox.engine.attach('boxed')).remove()
    await this.registry?.close()
    this.sandbox.remove()
  }

  /** A worker on a copy of the store. */
  start(name: string, prefix: readonly string[] = []): { readonly root: string; readonly child: CrashWorker } {
    const root = join(this.sandbox.directory, name)
    // With devices and attributes, such as those of overlayfs.
    execFileSync('cp', ['-a', this.sandbox.root, root])
    const { state } = this.sandbox
    const env = { UV_THREADPOOL_SIZE: '1' }
    return {
      root,
      child: startCrashWorker(root, this.registry?.host ?? '', { seed: 1, mode: state, prefix, env, program }),
    }
  }

  /** Kills a worker at a moment: when it has told so many lines, and some milliseconds more. @returns its last line. */
  async killAfter(name: string, lines: number, wait: number): Promise<string> {
    const { root, child } = this.start(name)
    await child.reaches(lines)
    await Promise.race([child.ended, delay(wait)])
    child.process.kill('SIGKILL')
    await child.ended
    await this.verify(root, child.lines, false)
    return child.lines.at(-1) ?? 'start'
  }

  /** Kills a worker, or a process that works for it, at the `count`-th such system call. @returns whether it was reached. */
  async killAtCall(call: string, count: number): Promise<boolean> {
    const inject = `inject=${call}:signal=KILL:when=${count}`
    const prefix = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`, '-e', inject]
    const { root, child } = this.start(`${call}-${count}`, prefix)
    const { code } = await child.ended
    await this.verify(root, child.lines, true)
    return code !== 0
  }

  /** Fails when the store is not in order, or something that was complete is gone. `mayFail`: see {@link killAtCall}. */
  async verify(root: string, lines: readonly string[], mayFail: boolean): Promise<void> {
    const context = `after: ${lines.slice(-2).join(', ')}`
    const failed = lines.find((line) => line.startsWith('failed'))
    if (!mayFail || failed?.includes('RemoteExitError') !== true) expect(failed, context).toBeUndefined()
    const store = await openAfterCrash(root)
    expect((await store.check()).findings, context).toEqual([])
    for (const part of ['tmp', 'leases']) expect(readdirSync(join(root, part)), `${context}: ${part}`).toEqual([])
    const isDone = (step: string): boolean => lines.includes(`done ${step}`)
    const mayBeGone = (step: string): boolean => lines.includes(`begin no-${step}`)
    const references = (await store.references()).map(({ reference }) => reference ?? '')
    const has = (name: string): boolean => references.some((reference) => reference.includes(name))
    if (isDone('committed')) expect(has('committed'), context).toBe(true)
    if (isDone('pulled') && !mayBeGone('pulled')) expect(has('/app:1'), context).toBe(true)
    if (isDone('no-pulled')) expect(has('/app:1'), context).toBe(false)
    const volumes = new Map((await store.volumes.list()).map(({ name, path }) => [name, readdirSync(path).length]))
    expect(volumes.get('kept'), context).toBe(filesInVolume)
    if (isDone('imported') && !mayBeGone('imported')) expect(volumes.get('imported'), context).toBe(filesInVolume)
    // All of it or nothing.
    expect([undefined, 0, filesInVolume], context).toContain(volumes.get('imported'))
    await this.#verifyContainers(store, root, { isDone, mayBeGone }, context)
    rmSync(root, { recursive: true })
  }

  async #verifyContainers(store: Store, root: string, told: Told, context: string): Promise<void> {
    const containers = readdirSync(join(root, 'containers'))
    expect(containers, context).toContain(this.container)
    if (told.isDone('copied') && !told.mayBeGone('copied')) expect(containers, context).toContain('copied')
    if (!containers.includes('copied')) return
    const record = JSON.parse(readFileSync(join(root, 'containers/copied/writable.json'), 'utf8'))
    expect(record, context).toMatchObject({ copied: true, ephemeral: false })
    expect(countOf((await store.openWritable('copied')).upper), context).toBe(this.copiedFiles)
  }
}

interface Told {
  isDone(step: string): boolean
  mayBeGone(step: string): boolean
}

function countOf(directory: string): number {
  return readdirSync(directory, { recursive: true }).length
}
