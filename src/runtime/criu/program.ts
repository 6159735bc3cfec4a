import { type SpawnOptions, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { RuntimeError, UnsupportedError } from '../../errors.ts'
import { isExecutable } from '../../internal/executable.ts'

const feature = 'checkpoint and restore'
const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** What CRIU finds its own programs with (ip, tar, iptables). */
export const criuPath: string = process.env.PATH ?? defaultPath

/**
 * Path of CRIU's program.
 * @param given What the caller calls it. Default `criu`, where PATH or the usual directories have it.
 * @throws UnsupportedError when there is none.
 */
export function findCriu(given: string | undefined): string {
  const name = given === undefined || given === '' ? 'criu' : given
  const places = name.includes('/') ? [name] : `${criuPath}:${defaultPath}`.split(':').map((path) => join(path, name))
  const found = places.find(isExecutable)
  if (found !== undefined) return found
  throw new UnsupportedError(feature, `CRIU is not installed: there is no program ${name}`, {
    hint: 'On Debian: apt-get install criu.',
  })
}

/** What became of a run of CRIU. */
interface Ran {
  readonly code: number | null
  readonly output: string
}

/** Runs CRIU to its end. */
export function runCriu(program: string, args: readonly string[], options: SpawnOptions = {}): Promise<Ran> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options })
    let output = ''
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        output += text
      })
    }
    child.on('error', reject)
    child.on('close', (code) => resolve({ code, output }))
  })
}

/**
 * The error for a CRIU that has failed, by what it logged: UnsupportedError when it can do nothing on this host.
 * @param log Path of its log. @param output What it wrote besides.
 */
export async function criuFailed(
  program: string,
  {
    id,
    step,
    log,
    output,
  }: { readonly id: string; readonly step: string; readonly log: string; readonly output: string },
): Promise<Error> {
  const checked = await runCriu(program, ['check'])
  if (checked.code !== 0) {
    const reason = `${program} does not work on this host: ${lastErrors(checked.output, 1) || 'criu check fails'}`
    return new UnsupportedError(feature, reason, { subject: id, hint: 'See `criu check`; a newer CRIU may do.' })
  }
  const why = lastErrors(textOf(log), 3) || lastErrors(output, 3) || 'it does not say why'
  return new RuntimeError(`container ${id}: CRIU could not ${step}: ${why}`, {
    step,
    subject: id,
    hint: `Its log is ${log}.`,
  })
}

/** The last messages of errors, without the programs that it only tried. */
function lastErrors(text: string, count: number): string {
  const errors = text.split('\n').flatMap((line) => /Error \([^)]*\): (.*)/.exec(line)?.[1] ?? [])
  const telling = errors.filter(
    (error) => !/^exited, status=|failed: No such file or directory$|-save -V failed/.test(error),
  )
  return telling.slice(-count).join('; ')
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
