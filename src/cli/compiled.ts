import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import { createRequire } from 'node:module'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { Script } from 'node:vm'

/** Commands that are run once a container: each has a file with what it needs, and nothing that only others need. */
const frequent: readonly string[] = ['create', 'start', 'run', 'exec', 'kill', 'delete', 'state']

/**
 * Loads a CommonJS file by what V8 has compiled of it before. That is kept where nobody else may write, since who can
 * write there decides what we run: `/var/cache/oci-ts`, for ordinary users `$XDG_CACHE_HOME/oci-ts` or `~/.cache/oci-ts`,
 * or `$NODE_COMPILE_CACHE`; with `NODE_DISABLE_COMPILE_CACHE` nowhere. Where it can't be kept it is compiled each time.
 */
export function loadCompiled<Exports>(path: string): Exports {
  const source = readFileSync(path)
  const kept = process.env.NODE_DISABLE_COMPILE_CACHE === undefined ? nameOfKept() : undefined
  const cachedData = kept === undefined ? undefined : readKept(kept, source)
  const code = `(function (exports, require, module, __filename, __dirname) {${source.toString()}\n})`
  const script = new Script(code, { filename: path, cachedData })
  // At the end, when V8 has compiled what was called.
  if (kept !== undefined && script.cachedDataRejected !== false) {
    process.once('exit', () => keep(kept, source, () => script.createCachedData()))
  }
  const module = { exports: {} as Exports }
  const run = script.runInThisContext() as (...args: readonly unknown[]) => void
  run.call(module.exports, module.exports, createRequire(path), module, path, dirname(path))
  return module.exports
}

function nameOfKept(): string {
  const { NODE_COMPILE_CACHE, XDG_CACHE_HOME } = process.env
  const own = process.geteuid?.() === 0 ? '/var/cache' : (XDG_CACHE_HOME ?? `${homedir()}/.cache`)
  const command = process.argv.slice(2).find((arg) => frequent.includes(arg)) ?? 'other'
  return join(NODE_COMPILE_CACHE || `${own}/oci-ts/compiled`, `${command}-${process.version}-${process.arch}`)
}

/** What was compiled of exactly that source, which stands before it. */
function readKept(path: string, source: Buffer): Buffer | undefined {
  try {
    const kept = readFileSync(path)
    return kept.subarray(0, source.length).equals(source) ? kept.subarray(source.length) : undefined
  } catch {
    return undefined
  }
}

function keep(path: string, source: Buffer, compiled: () => Buffer): void {
  const temporary = `${path}.${process.pid}`
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
    const file = openSync(temporary, 'wx', 0o600)
    for (const part of [source, compiled()]) writeSync(file, part)
    // What a crash leaves of it must not be taken for the whole.
    fsyncSync(file)
    closeSync(file)
    renameSync(temporary, path)
  } catch {
    // Without it the next start is slower.
  }
}
