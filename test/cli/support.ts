import { spawn, spawnSync } from 'node:child_process'
import { closeSync, copyFileSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
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
    this.path = join(this.directory, 'dist/cli/main.cjs')
    copyFileSync(join(project, 'package.json'), join(this.directory, 'package.json'))
    for (const [name, external] of [
      ['main', ['./library.ts']],
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
        external: [...external, 'ffi-rs'],
        define: { 'import.meta.url': '__filename' },
        supported: { 'dynamic-import': false },
        logLevel: 'error',
      })
    }
    // As the build of the package does.
    writeFileSync(this.path, readFileSync(this.path, 'utf8').replaceAll('./library.ts', './library.cjs'))
  }

  /** Runs it to its end. What it leaves behind has its streams, which therefore are files. */
  run(args: readonly string[], options: { readonly input?: string; readonly cwd?: string } = {}): Ran {
    const paths = ['stdout', 'stderr'].map((name) => join(this.directory, name))
    const [out, err] = paths.map((path) => openSync(path, 'w')) as [number, number]
    try {
      const { status } = spawnSync(process.execPath, [this.path, ...args], {
        timeout: 30_000,
        ...options,
        stdio: [options.input === undefined ? 'ignore' : 'pipe', out, err],
      })
      const [stdout, stderr] = paths.map((path) => readFileSync(path, 'utf8')) as [string, string]
      return { status, stdout, stderr }
    } finally {
      closeSync(out)
      closeSync(err)
    }
  }

  /** Runs it beside this process. */
  start(args: readonly string[]): ReturnType<typeof spawn> {
    return spawn(process.execPath, [this.path, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }
}

/** Runs a script with arguments; the first one is `$0`. */
export function sh(script: string, ...args: readonly string[]): Ran {
  const { status, stdout, stderr } = spawnSync('sh', ['-c', script, ...args], { encoding: 'utf8', timeout: 30_000 })
  return { status, stdout, stderr }
}
