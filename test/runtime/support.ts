import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import {
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { LinuxNamespaceType, Mount, Spec } from '../../src/bundle/index.ts'
import type { ExitStatus } from '../../src/errors.ts'
import { delay } from '../../src/internal/abort.ts'
import { descriptorOut, receivedDescriptor, receiveMessage } from '../../src/linux/calls/descriptor-messages.ts'
import { AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket } from '../../src/linux/calls/processes.ts'
import { accept, bindTo, listen } from '../../src/linux/calls/sockets.ts'
import { perform, performFor } from '../../src/linux/local.ts'
import { dismissSpares } from '../../src/linux/remote/spares.ts'
import { hostHierarchies } from '../../src/runtime/cgroups/hierarchies.ts'
import { type CreateOptions, createContainer, type RuntimeContainer } from '../../src/runtime/index.ts'

const busybox = ['/bin/busybox', '/usr/bin/busybox'].find((path) => existsSync(path))

/** Whether containers can be made here; else why not. */
export const cannotRun: string | undefined =
  process.getuid?.() !== 0 ? 'needs root' : busybox === undefined ? 'needs busybox-static' : undefined

export const allNamespaces: readonly LinuxNamespaceType[] = ['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup']

/** Mounts as Docker has them. */
export const dockerMounts: readonly Mount[] = [
  { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev',
    type: 'tmpfs',
    source: 'tmpfs',
    options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
  },
  {
    destination: '/dev/pts',
    type: 'devpts',
    source: 'devpts',
    options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
  },
  { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro', 'nosuid', 'noexec', 'nodev'] },
  { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
  {
    destination: '/dev/shm',
    type: 'tmpfs',
    source: 'shm',
    options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'],
  },
]

/** A change of a spec: its parts replace those of the default one. */
export interface SpecChanges extends Omit<Partial<Spec>, 'process' | 'linux'> {
  readonly process?: Partial<NonNullable<Spec['process']>>
  readonly linux?: Partial<NonNullable<Spec['linux']>>
}

/** A spec for busybox. */
export function specOf(args: readonly string[], changes: SpecChanges = {}): Spec {
  return {
    ociVersion: '1.2.0',
    root: { path: 'rootfs' },
    mounts: dockerMounts,
    ...changes,
    process: { cwd: '/', args, env: ['PATH=/bin'], ...changes.process },
    linux: { namespaces: allNamespaces.map((type) => ({ type })), ...changes.linux },
  }
}

/** What a container left. */
export interface Outcome {
  readonly stdout: string
  readonly stderr: string
  readonly status: ExitStatus
}

/** A temporary directory with a bundle of busybox and a state root. */
export class Sandbox {
  readonly directory: string
  readonly bundle: string
  readonly rootfs: string
  readonly stateRoot: string
  private readonly name = `test-${randomBytes(4).toString('hex')}`
  private count = 0
  private readonly containers: RuntimeContainer[] = []
  private before: Leftovers | undefined

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'oci-ts-runtime-'))
    this.bundle = join(this.directory, 'bundle')
    this.rootfs = join(this.bundle, 'rootfs')
    this.stateRoot = join(this.directory, 'state')
    makeRootfs(this.rootfs)
  }

  /** An id that no other test has. */
  id(): string {
    return `${this.name}-${++this.count}`
  }

  /** Makes a container; the test deletes it. */
  async create(spec: Spec, options: Partial<CreateOptions> = {}): Promise<RuntimeContainer> {
    const container = await this.createUnlisted(spec, options)
    this.containers.push(container)
    return container
  }

  /** {@link create} for a test that makes so many that it must not keep them all. */
  createUnlisted(spec: Spec, options: Partial<CreateOptions> = {}): Promise<RuntimeContainer> {
    const { bundle, stateRoot } = this
    return createContainer({ id: this.id(), spec, bundle, stateRoot, ...options })
  }

  /** Runs a container to its end, and deletes it. */
  async run(spec: Spec, options: Partial<CreateOptions> = {}): Promise<Outcome> {
    const files = ['stdout', 'stderr'].map((name) => join(this.directory, `${this.name}-${++this.count}-${name}`))
    const [out, err] = files.map((path) => openSync(path, 'w')) as [number, number]
    try {
      const container = await this.create(spec, { stdio: [undefined, out, err], ...options })
      try {
        await container.start()
        const status = await container.exited
        const [stdout, stderr] = files.map((path) => readFileSync(path, 'utf8')) as [string, string]
        return { stdout, stderr, status }
      } finally {
        await container.delete({ force: true })
      }
    } finally {
      closeSync(out)
      closeSync(err)
      for (const path of files) rmSync(path)
    }
  }

  /** Runs a script with the shell. @returns what it wrote. */
  async sh(script: string, changes: SpecChanges = {}, options: Partial<CreateOptions> = {}): Promise<string> {
    const { stdout, stderr, status } = await this.run(specOf(['sh', '-c', script], changes), options)
    expect({ stderr, status }).toEqual({ stderr: '', status: { code: 0, signal: undefined, oomKilled: false } })
    return stdout
  }

  /** Remembers what there is, for {@link expectNothingLeft}. A first container opens what stays open. */
  async remember(): Promise<void> {
    await this.sh('true')
    this.before = await settledLeftovers(this.name, this.directory)
  }

  /** Fails when a container left anything since {@link remember}. */
  async expectNothingLeft(): Promise<void> {
    // Those of a test that failed: they must not let the next ones fail.
    await this.removeContainers()
    expect(await settledLeftovers(this.name, this.directory)).toEqual(this.before)
    expect(readdirSync(this.stateRoot)).toEqual([])
  }

  /** Deletes the containers that are left. */
  async removeContainers(): Promise<void> {
    await Promise.all(this.containers.splice(0).map((container) => container.delete({ force: true })))
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Makes a root filesystem with every applet of busybox. */
export function makeRootfs(path: string): void {
  const bin = join(path, 'bin')
  mkdirSync(bin, { recursive: true })
  for (const name of ['dev', 'proc', 'sys', 'tmp', 'etc', 'root']) mkdirSync(join(path, name))
  copyFileSync(busybox as string, join(bin, 'busybox'))
  const applets = execFileSync(busybox as string, ['--list'], { encoding: 'utf8' })
  for (const name of applets.trim().split('\n')) if (name !== 'busybox') symlinkSync('busybox', join(bin, name))
  writeFileSync(join(path, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n')
  writeFileSync(join(path, 'etc/group'), 'root:x:0:\nuser:x:1000:\n')
}

interface Leftovers {
  readonly children: readonly string[]
  readonly descriptors: readonly string[]
  readonly mounts: readonly string[]
  readonly cgroups: readonly string[]
}

/** What this process and the host have, when what ends soon has ended. */
async function settledLeftovers(name: string, directory: string): Promise<Leftovers> {
  const end = Date.now() + 5000
  dismissSpares(0)
  while (childrenOfThis().length > 0 && Date.now() < end) await delay(5)
  return {
    children: childrenOfThis(),
    descriptors: descriptorsOfThis(),
    mounts: hostMounts(name, directory),
    cgroups: cgroupsOf(name),
  }
}

/** Lines of the host's mounts that have one of `parts`: tests beside this one mount as well. */
export function hostMounts(...parts: readonly string[]): readonly string[] {
  const lines = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
  return lines.filter((line) => parts.some((part) => line.includes(part)))
}

/** Remote processes that this process has. */
export function childrenOfThis(): readonly string[] {
  const text = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim()
  const comm = (pid: string): string | undefined => {
    try {
      return readFileSync(`/proc/${pid}/stat`, 'utf8')
    } catch {
      return undefined
    }
  }
  // Only remote processes: vitest has children of its own. One that was let go of is waited for by the next spawn.
  return text === '' ? [] : text.split(' ').filter((pid) => /\((?:oci-ts|\d+)\) [^Z]/.test(comm(pid) ?? ''))
}

export function descriptorsOfThis(): readonly string[] {
  return readdirSync('/proc/self/fd')
    .flatMap((fd) => {
      try {
        const target = readlinkSync(`/proc/self/fd/${fd}`)
        // Numbers of anonymous inodes differ, and those of pipes and event descriptors are Node's.
        return [target.replace(/\d+/g, 'N')]
      } catch {
        return []
      }
    })
    .sort()
}

/** Directories of cgroups whose name begins with `prefix`. */
export function cgroupsOf(prefix: string): readonly string[] {
  const { v1, v2 } = hostHierarchies()
  const roots = [...v1, ...(v2 === undefined ? [] : [v2])].map(({ mountPoint }) => mountPoint)
  return roots.flatMap((root) =>
    readdirSync(root)
      .filter((entry) => entry.startsWith(`oci-ts-${prefix}`))
      .map((entry) => join(root, entry)),
  )
}

/** Waits until `condition` holds; fails after twenty seconds. */
export async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 20_000
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`)
    await delay(5)
  }
}

/** Waits at a socket while `send` sends a descriptor there. */
export async function descriptorSentTo<T>(
  path: string,
  send: (path: string) => Promise<T>,
): Promise<{ readonly fd: number; readonly sent: T }> {
  const listening = perform(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0))
  try {
    perform(bindTo(listening, path))
    perform(listen(listening, 1))
    const sent = await send(path)
    const connection = perform(accept(listening))
    const control = descriptorOut()
    const fd = receivedDescriptor(performFor(receiveMessage(connection, control)).bytes(control)) as number
    closeSync(connection)
    return { fd, sent }
  } finally {
    closeSync(listening)
    rmSync(path, { force: true })
  }
}
