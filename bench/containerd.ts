import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { type Contestant, childrenCpu, silence } from './measure.ts'

/** `ctr pull`, each time with a containerd of its own whose store is empty. That it starts is not counted; its CPU time is. */
export class Containerd implements Contestant {
  readonly name = 'ctr'
  private readonly base: string
  private readonly reference: string
  private used = 0

  /** @param base a directory on the file system to write to */
  constructor(base: string, reference: string) {
    this.base = base
    this.reference = reference
  }

  async run(): Promise<number> {
    rmSync(this.base, { recursive: true, force: true })
    mkdirSync(this.base, { recursive: true })
    spawnSync('sync', ['--file-system', this.base])
    const socket = join(this.base, 'sock')
    const [root, state] = [join(this.base, 'root'), join(this.base, 'state')]
    const daemon = spawn('containerd', ['--root', root, '--state', state, '--address', socket], { stdio: 'ignore' })
    try {
      for (let attempt = 0; !existsSync(socket) || ctr(socket, ['version']).status !== 0; attempt++) {
        if (attempt === 100) throw new Error('containerd does not answer')
        await silence(100)
      }
      const before = cpuOf(daemon) + childrenCpu('self')
      const began = performance.now()
      const { status, stderr } = ctr(socket, [
        'images',
        'pull',
        '--plain-http',
        '--snapshotter',
        'overlayfs',
        this.reference,
      ])
      const took = performance.now() - began
      if (status !== 0) throw new Error(`ctr ended with ${status}: ${stderr}`)
      this.used += cpuOf(daemon) + childrenCpu('self') - before
      return took
    } finally {
      await ended(daemon)
    }
  }

  /** Of the daemon, and of ctr, which fetches. */
  cpu(): number {
    return this.used
  }

  close(): void {
    rmSync(this.base, { recursive: true, force: true })
  }
}

function ctr(socket: string, args: readonly string[]): { readonly status: number | null; readonly stderr: string } {
  return spawnSync('ctr', ['--address', socket, ...args], { encoding: 'utf8' })
}

/** CPU milliseconds of a process and of its children that have ended, in steps of 10. */
function cpuOf({ pid }: ChildProcess): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return fields.slice(11, 15).reduce((sum, field) => sum + Number(field) * 10, 0)
}

function ended(daemon: ChildProcess): Promise<void> {
  if (daemon.exitCode !== null) return Promise.resolve()
  const over = new Promise<void>((resolve) => daemon.once('exit', () => resolve()))
  daemon.kill()
  return over
}
