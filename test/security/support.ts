import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe } from 'vitest'
import type { Capabilities, Mount } from '../../src/bundle/index.ts'
import type { Call } from '../../src/linux/call.ts'
import { AT_FDCWD, renameat2 } from '../../src/linux/calls/files.ts'
import { MNT_DETACH, mount, umount2 } from '../../src/linux/calls/mounts.ts'
import { Remote } from '../../src/linux/remote/remote.ts'
import { cannotRunAsRoot } from '../engine/support/busybox.ts'
import { Sandbox as EngineSandbox } from '../engine/support/sandbox.ts'
import { cannotRun, makeRootfs, Sandbox } from '../runtime/support.ts'

/** Tests of one attack, in a sandbox of their own; whatever it does, nothing may be left of it. */
export function attack(name: string, define: (sandbox: () => Sandbox) => void): void {
  describe.skipIf(cannotRun)(`${name} (${cannotRun ?? 'tried for real'})`, () => {
    let sandbox: Sandbox
    beforeAll(async () => {
      sandbox = new Sandbox()
      await sandbox.remember()
    })
    afterEach(() => sandbox.expectNothingLeft())
    afterAll(() => sandbox.remove())
    define(() => sandbox)
  })
}

/** As {@link attack}, on an engine with the image `busybox`. */
export function engineAttack(name: string, define: (sandbox: () => EngineSandbox) => void): void {
  describe.skipIf(cannotRunAsRoot)(`${name} (${cannotRunAsRoot ?? 'tried for real'})`, () => {
    let sandbox: EngineSandbox
    beforeAll(async () => {
      sandbox = new EngineSandbox()
      await sandbox.prepare()
    })
    afterEach(() => sandbox.expectNothingLeft())
    afterAll(() => sandbox.remove())
    define(() => sandbox)
  })
}

let rootfsCount = 0

/** A further root filesystem, to be spoiled. */
export function spoiledRootfs(sandbox: Sandbox): string {
  const path = join(sandbox.directory, `rootfs-${++rootfsCount}`)
  makeRootfs(path)
  return path
}

/** A bind mount. */
export function bind(destination: string, source: string, ...options: readonly string[]): Mount {
  return { destination, type: 'bind', source, options: ['rbind', ...options] }
}

/** Capabilities by which a container could do most harm. */
const everything = ['CAP_SYS_ADMIN', 'CAP_SYS_PTRACE', 'CAP_DAC_OVERRIDE', 'CAP_MKNOD', 'CAP_NET_ADMIN']
export const powerful: Capabilities = { bounding: everything, permitted: everything, effective: everything }

/** What of the host attacks are after: a setting that runs programs as root, and others. */
export function hostSettings(): readonly string[] {
  return ['kernel/core_pattern', 'kernel/hostname', 'vm/swappiness'].map((name) =>
    readFileSync(`/proc/sys/${name}`, 'utf8'),
  )
}

/** All files below a directory with their types, sizes and times of change. */
export function contentsOf(directory: string): readonly string[] {
  return readdirSync(directory, { recursive: true, encoding: 'utf8' })
    .map((name) => {
      const { mode, size, ctimeMs } = statSync(join(directory, name), { throwIfNoEntry: false }) ?? {}
      return `${name} ${mode} ${size} ${ctimeMs}`
    })
    .sort()
}

const RENAME_EXCHANGE = 2
/** How often each pair is exchanged in a batch. Odd: between two batches either of them is in its place for a while. */
const exchangesInBatch = 101

/** A process that does the same over and over, as fast as the kernel goes, until it is disposed. */
export class Racer implements AsyncDisposable {
  private readonly remote: Remote
  private readonly running: Promise<void>
  private stopped = false

  private constructor(calls: readonly Call[]) {
    this.remote = Remote.spawn()
    this.running = this.run(calls)
  }

  /** Exchanges two files with each other, atomically. */
  static exchange(one: string, other: string): Racer {
    return Racer.exchanges([[one, other]])
  }

  /** Exchanges the files of each pair with each other, one pair after the other. */
  static exchanges(pairs: readonly (readonly [string, string])[]): Racer {
    return new Racer(
      Array.from({ length: exchangesInBatch * pairs.length }, (_, index) => {
        const [one, other] = pairs[index % pairs.length] as readonly [string, string]
        return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE, { tolerate: 'ENOENT' })
      }),
    )
  }

  /** Mounts a tmpfs on a directory, and takes it away again. */
  static mounts(directory: string): Racer {
    const any = { tolerate: 'any' }
    const pair = [mount('racer', directory, 'tmpfs', 0, 0, any), umount2(directory, MNT_DETACH, any)]
    return new Racer(Array.from({ length: 20 }, () => pair).flat())
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.stopped = true
    await this.running
    await this.remote.close()
  }

  private async run(calls: readonly Call[]): Promise<void> {
    // Twice, so that in the end all is as it was. Fresh calls for each batch: a batch finds its results by them.
    while (!this.stopped) {
      for (let turn = 0; turn < 2; turn++) await this.remote.run(calls.map((each) => ({ ...each })))
    }
  }
}
