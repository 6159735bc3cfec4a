import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface, type Interface } from 'node:readline'
import type { Contestant } from './measure.ts'

/** Path of a program; undefined when it is not installed. */
export function find(program: string): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(':'), '/usr/local/sbin', '/usr/sbin', '/sbin']
  return directories.map((directory) => join(directory, program)).find((path) => existsSync(path))
}

/**
 * Runs a command for each line it reads, and says how it ended and how many microseconds it took. A file has the CPU
 * time: of the shell itself, and of what it has run so far.
 */
const loop = `
while IFS= read -r argument; do
  begin=$EPOCHREALTIME
  "$@" "$argument" </dev/null >/dev/null 2>"$errors"
  code=$?
  end=$EPOCHREALTIME
  times >"$times"
  echo "$code $(( \${end/[.,]/} - \${begin/[.,]/} ))"
done`

let peers = 0

/**
 * A program that is started again and again by a shell that does nothing else: a process of this size would be slower
 * at starting one, and the time of getting into a mount namespace is no part of what is measured. In that namespace
 * the cgroup2 tree of a hybrid host is out of sight, because crun refuses such hosts.
 */
export class Peer implements Contestant {
  readonly name: string
  private readonly shell: ChildProcess
  private readonly answers: AsyncIterator<string>
  private readonly lines: Interface
  private readonly nextArgument: () => string
  private readonly errors: string
  /** Others may have the same file of errors. */
  private readonly times: string

  /** @param nextArgument the last argument of each run, such as an id */
  constructor(name: string, command: readonly string[], errors: string, nextArgument: () => string) {
    this.name = name
    this.nextArgument = nextArgument
    this.errors = errors
    this.times = `${errors}.${++peers}.times`
    const argv = inMountNamespace(`errors=$0; times=$1; shift; ${loop}`, [errors, this.times, ...command])
    this.shell = spawn(argv[0] as string, argv.slice(1), { stdio: ['pipe', 'pipe', 'inherit'] })
    this.lines = createInterface({ input: this.shell.stdout as NodeJS.ReadableStream })
    this.answers = this.lines[Symbol.asyncIterator]()
  }

  async run(): Promise<number> {
    this.shell.stdin?.write(`${this.nextArgument()}\n`)
    const { value, done } = await this.answers.next()
    const [code, microseconds] = done === true ? ['?', 'NaN'] : String(value).split(' ')
    if (code !== '0') {
      const said = existsSync(this.errors) ? readFileSync(this.errors, 'utf8').trim() : ''
      throw new Error(`${this.name} ended with ${code}: ${said}`)
    }
    return Number(microseconds) / 1000
  }

  cpu(): number {
    const ofChildren = existsSync(this.times) ? readFileSync(this.times, 'latin1').split('\n')[1] : undefined
    const times = [...(ofChildren ?? '').matchAll(/(\d+)m([\d.]+)s/g)]
    return times.reduce((all, [, minutes, seconds]) => all + Number(minutes) * 60_000 + Number(seconds) * 1000, 0)
  }

  close(): void {
    this.lines.close()
    this.shell.stdin?.end()
  }
}

/** A shell that runs `script` with `args` ($0 first) in a mount namespace of its own, where a cgroup2 tree of a hybrid host is hidden. */
export function inMountNamespace(script: string, args: readonly string[]): readonly string[] {
  const enter = process.getuid?.() === 0 ? ['unshare', '--mount', '--propagation', 'private'] : []
  const hide = isHybrid() ? 'umount /sys/fs/cgroup/unified; ' : ''
  return [...enter, 'bash', '-c', hide + script, ...args]
}

function isHybrid(): boolean {
  return / \/sys\/fs\/cgroup\/unified cgroup2 /.test(readFileSync('/proc/mounts', 'utf8'))
}
