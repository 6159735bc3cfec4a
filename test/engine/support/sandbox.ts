import { randomBytes } from 'node:crypto'
import { chmodSync, mkdtempSync, readdirSync, readlinkSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type Container, createEngine, type Engine, type RunOptions } from '../../../src/index.ts'
import { delay } from '../../../src/internal/abort.ts'
import { dismissSpares } from '../../../src/linux/remote/spares.ts'
import type { StoreOptions } from '../../../src/store/index.ts'
import { childrenOfThis, until } from '../../runtime/support.ts'
import { put, type TestImage } from '../../store/support/image.ts'
import { busyboxImage } from './busybox.ts'
import { nothing, settledLeftovers } from './leftovers.ts'

/** An engine in a temporary directory. */
export class Sandbox {
  readonly directory: string
  readonly root: string
  readonly state: string
  readonly engine: Engine
  /** Part of the names of the cgroups of this sandbox, and of no other. */
  readonly mark: string = randomBytes(4).toString('hex')
  private count = 0
  private descriptors: readonly string[] = []

  constructor(rootfs?: StoreOptions['rootfs'], parent: string = tmpdir()) {
    this.directory = mkdtempSync(join(parent, 'oci-ts-engine-'))
    chmodSync(this.directory, 0o755)
    this.root = join(this.directory, 'store')
    this.state = join(this.directory, 'state')
    this.engine = createEngine({ root: this.root, state: this.state, store: { durability: 'none', rootfs } })
  }

  /** Puts an image into the store. */
  async put(name: string, image: TestImage = busyboxImage()): Promise<void> {
    await put(await this.engine.store(), image, `docker.io/library/${name}:latest`)
  }

  /** Runs busybox; the test removes it. */
  run(command: readonly string[], options: RunOptions = {}): Promise<Container> {
    return this.engine.run('busybox', { command, pull: 'never', cgroupsPath: this.cgroup(), ...options })
  }

  /** Runs a script of the shell to its end. */
  async sh(script: string, options: RunOptions = {}): Promise<{ readonly stdout: string; readonly code: number }> {
    const box = await this.run(['sh', '-c', script], options)
    try {
      const chunks: Buffer[] = []
      for await (const chunk of box.stdout) chunks.push(chunk as Buffer)
      return { stdout: Buffer.concat(chunks).toString(), code: (await box.exited).code }
    } finally {
      await box.remove()
    }
  }

  /** A path of a cgroup that no other container has. */
  cgroup(): string {
    this.count += 1
    return `/oci-ts-${this.mark}-${this.count}`
  }

  /** Puts busybox into the store and runs it once: what is loaded on first use stays open. */
  async prepare(): Promise<void> {
    await this.put('busybox')
    await this.sh('true')
    dismissSpares(0)
    await until('every remote process has ended', () => childrenOfThis().length === 0)
    this.descriptors = descriptorsOfThis()
  }

  /** Fails when a container has left anything. */
  async expectNothingLeft(): Promise<void> {
    expect(await settledLeftovers(this)).toEqual(nothing)
    dismissSpares(0)
    const end = Date.now() + 2000
    while (descriptorsOfThis().length > this.descriptors.length && Date.now() < end) await delay(5)
    expect(descriptorsOfThis()).toEqual(this.descriptors)
  }

  /** Opens the store anew, as the next process does: that removes what dead ones left. */
  async reopen(): Promise<void> {
    await createEngine({ root: this.root, store: { durability: 'none' } }).store()
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

function descriptorsOfThis(): readonly string[] {
  return readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        // Numbers of anonymous inodes differ from one time to the next.
        return [readlinkSync(`/proc/self/fd/${fd}`).replace(/\d+/g, 'N')]
      } catch {
        return [] // the descriptor of the directory itself
      }
    })
    .sort()
}

/** All lines of a container's log, as they are now or up to its end. */
export async function linesOf(box: Container, options?: Parameters<Container['logs']>[0]): Promise<readonly string[]> {
  const lines: string[] = []
  for await (const { stream, text } of box.logs(options)) lines.push(`${stream}: ${text}`)
  return lines
}
