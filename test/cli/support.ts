import { spawn, spawnSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { buildSync } from 'esbuild'

const project = fileURLToPath(new URL('../..', import.meta.url))

/** What a command line did. */
export interface Ran {
  readonly status: number | null
  readonly stdout: string
  readonly stderr: string
}

/** The command line as one file, as the package has it, built of the sources for one test file. */
export class CommandLine {
  /** The executable file. */
  readonly path: string
  private readonly directory: string

  constructor() {
    // Below the project, so that the one package that it needs is found.
    const cache = join(project, 'node_modules/.cache/oci-ts')
    mkdirSync(cache, { recursive: true })
    this.directory = mkdtempSync(join(cache, 'cli-'))
    chmodSync(this.directory, 0o755) // some tests run it as another user
    this.path = join(this.directory, 'dist/cli/main.cjs')
    copyFileSync(join(project, 'package.json'), join(this.directory, 'package.json'))
    for (const [name, external] of [
      ['main', []],
      ['command-line', ['./library.ts']],
      ['library', []],
    ] as const) {
      buildSync({
        absWorkingDir: project,
        entryPoints: [`src/cli/${name}.ts`],
        outfile: join(this.directory, `dist/cli/${name}.cjs`),
        bundle: true,
        platform: 'node',
        target: 'node20',
        format: 'cjs',
        minify: true,
        external: [...external, 'ffi-rs'],
        define: { 'import.meta.url': '__filename' },
        supported: { 'dynamic-import': false },
        logLevel: 'error',
      })
    }
    // As the build of the package does.
    const path = join(this.directory, 'dist/cli/command-line.cjs')
    writeFileSync(path, readFileSync(path, 'utf8').replaceAll('./library.ts', './library.cjs'))
    chmodSync(this.path, 0o755)
  }

  /** Runs it to its end. */
  run(args: readonly string[], options: RunOptions = {}): Ran {
    return run(process.execPath, [this.path, ...args], options)
  }

  /** Runs it beside this process. */
  start(args: readonly string[]): ReturnType<typeof spawn> {
    return spawn(process.execPath, [this.path, ...args], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...keepsNothing },
    })
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Has Node keep nothing that it compiles: tests leave the machine as it was. */
export const keepsNothing: Readonly<Record<string, string>> = { NODE_DISABLE_COMPILE_CACHE: '1' }

/** How {@link run} runs a program. */
export interface RunOptions {
  readonly input?: string
  readonly cwd?: string
  readonly env?: Readonly<Record<string, string>>
  /** Who runs it. */
  readonly uid?: number
  readonly gid?: number
}

/** Runs a program to its end. What it leaves behind may have its streams, which therefore are files. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Ran {
  const directory = mkdtempSync(join(tmpdir(), 'oci-ts-ran-'))
  const paths = ['stdout', 'stderr'].map((name) => join(directory, name))
  const [out, err] = paths.map((path) => openSync(path, 'w')) as [number, number]
  try {
    const { status } = spawnSync(program, args, {
      timeout: 60_000,
      ...options,
      env: { ...process.env, ...keepsNothing, ...options.env },
      stdio: [options.input === undefined ? 'ignore' : 'pipe', out, err],
    })
    const [stdout, stderr] = paths.map((path) => readFileSync(path, 'utf8')) as [string, string]
    return { status, stdout, stderr }
  } finally {
    closeSync(out)
    closeSync(err)
    rmSync(directory, { recursive: true })
  }
}

/** Its input does not end: of an end `script` tells the terminal by a byte of its own, which may show up anywhere. */
const typing =
  'd=$(mktemp -d); mkfifo "$d/i"; exec 0<>"$d/i"; rm -r "$d"; printf %s "$1" >&0; exec script -qec "$0" /dev/null'

/** Runs a program in a terminal of 33 rows and 77 columns, in which `input` is typed. */
export function runInTerminal(program: string, args: readonly string[], input = ''): Ran {
  const quoted = [program, ...args].map((arg) => `'${arg.replaceAll("'", `'\\''`)}'`).join(' ')
  return run('sh', ['-c', typing, `stty rows 33 cols 77; ${quoted}`, input])
}

/** Runs a script with arguments; the first one is `$0`. */
export function sh(script: string, ...args: readonly string[]): Ran {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script, ...args], { encoding: 'utf8', timeout: 30_000 })
  return { status, stdout, stderr }
}
