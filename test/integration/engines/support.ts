import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, openSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'
import { keepsNothing, run } from '../../cli/support.ts'
import { cannotRun, makeRootfs } from '../../runtime/support.ts'

const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/sbin', '/usr/bin']

/** Path of a program; undefined when it is not installed. That of the distribution comes first: it fits the others. */
export function find(name: string): string | undefined {
  return ['/usr/bin', ...directories].map((directory) => join(directory, name)).find((path) => existsSync(path))
}

/** Why containers can't be run with `programs`; undefined when they can. */
export function cannotRunWith(programs: Readonly<Record<string, string>>): string | undefined {
  const missing = Object.entries(programs).find(([program]) => find(program) === undefined)
  if (cannotRun !== undefined || missing === undefined) return cannotRun
  return `needs ${missing[1]}: run node scripts/prepare-tests.mjs`
}

/** A program that ends with 9 when it is told to, and lives until then. */
export const untilTold: readonly string[] = ['/bin/sh', '-c', 'trap "exit 9" TERM; while :; do sleep 0.05; done']

/** Cgroups that engines put those of containers in, the inner ones first. */
const parents: readonly string[] = [
  ...['docker', 'libpod_parent/conmon', 'libpod_parent', 'default'],
  `oci-ts-pods-${process.pid}`,
]

/** What engines make outside of their own directories and never remove. */
function traces(): readonly string[] {
  const { v1, v2 } = hostHierarchies()
  const roots = [...v1, ...(v2 === undefined ? [] : [v2])].map(({ mountPoint }) => mountPoint)
  const cgroups = roots.flatMap((root) => parents.map((name) => join(root, name)))
  const others = ['/run/containerd', '/run/docker'].flatMap(below)
  return [...cgroups.filter((path) => existsSync(path)), ...others]
}

/** A directory behind all directories in it. */
function below(path: string): readonly string[] {
  if (!existsSync(path)) return [] // gone since its parent was read
  const inside = readdirSync(path, { withFileTypes: true }).filter((entry) => entry.isDirectory())
  return [...inside.flatMap(({ name }) => below(join(path, name))), path]
}

/** A directory for an engine, with the root filesystem of busybox, and the daemons that use it. */
export class Place {
  readonly directory: string
  readonly rootfs: string
  private readonly daemons: ChildProcess[] = []
  private readonly before: ReadonlySet<string> = new Set(traces())

  constructor(name: string) {
    this.directory = mkdtempSync(join(tmpdir(), `oci-ts-${name}-`))
    this.rootfs = join(this.directory, 'rootfs')
    makeRootfs(this.rootfs)
  }

  path(...names: readonly string[]): string {
    return join(this.directory, ...names)
  }

  /** The root filesystem as an archive. */
  archive(): string {
    const path = this.path('rootfs.tar')
    run('tar', ['-C', this.rootfs, '-cf', path, '.'])
    return path
  }

  /** Starts a daemon, and waits until its socket is there. */
  async start(program: string, args: readonly string[], socket: string): Promise<void> {
    const log = openSync(this.path('daemon.log'), 'a')
    const daemon = spawn(program, args, { stdio: ['ignore', log, log], env: { ...process.env, ...keepsNothing } })
    this.daemons.push(daemon)
    for (const end = Date.now() + 30_000; !existsSync(socket); ) {
      if (Date.now() > end || daemon.exitCode !== null) {
        throw new Error(`${program} does not start: ${readFileSync(this.path('daemon.log'), 'utf8').slice(-2000)}`)
      }
      await new Promise((resolve) => setTimeout(resolve, 20))
    }
  }

  /** Ends the daemons, and removes all that there is. */
  async remove(): Promise<void> {
    for (const daemon of this.daemons.reverse()) {
      const ended = new Promise((resolve) => daemon.once('exit', resolve))
      if (daemon.exitCode === null && daemon.kill('SIGTERM')) await ended
    }
    // What an engine left mounted there, the last first.
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n')
    const mounted = mounts.map((line) => line.split(' ')[4] ?? '').filter((path) => path.startsWith(this.directory))
    for (const path of mounted.reverse()) run('umount', ['-l', path])
    rmSync(this.directory, { recursive: true, force: true })
    for (const path of traces().filter((each) => !this.before.has(each))) {
      try {
        rmdirSync(path)
      } catch {
        // Somebody else's engine uses it.
      }
    }
  }
}
