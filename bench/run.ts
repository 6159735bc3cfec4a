/**
 * `npm run bench`: this library against its peers, in turns, on this machine. Options: `--quick` (fewer repetitions),
 * `--only=runtime|engines|pull|unpack|copy|import`, `--image=<reference>` (what to pull, of a registry on this machine).
 * Prints a table, and writes it as JSON to bench/results/.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, cpus, loadavg, release, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { benchCopy } from './copy.ts'
import { benchEngines } from './engines.ts'
import { benchImport } from './import.ts'
import { benchPull } from './pull.ts'
import { format, type Part, verdict } from './result.ts'
import { benchRuntime } from './runtime.ts'
import { benchUnpack } from './unpack.ts'

const { values } = parseArgs({
  options: { quick: { type: 'boolean', default: false }, only: { type: 'string' }, image: { type: 'string' } },
})
const parts: Readonly<Record<string, (directory: string) => Promise<Part | readonly Part[]>>> = {
  runtime: (directory) => benchRuntime(directory, values.quick),
  engines: (directory) => benchEngines(directory, values.quick),
  pull: (directory) => benchPull(directory, values.quick, values.image),
  unpack: (directory) => benchUnpack(directory, values.quick),
  copy: (directory) => benchCopy(directory, values.quick),
  import: (directory) => benchImport(directory, values.quick),
}
if (values.only !== undefined && parts[values.only] === undefined) {
  console.error(`--only=${values.only}: there is ${Object.keys(parts).join(', ')}`)
  process.exit(2)
}

const load = loadavg()[0] ?? 0
console.log(
  `Node ${process.versions.node}, Linux ${release()}, ${availableParallelism()} x ${cpus()[0]?.model ?? 'unknown'}, load ${load.toFixed(1)}`,
)
const directory = mkdtempSync(join(tmpdir(), 'oci-ts-bench-'))
const results: Part[] = []
try {
  for (const [name, bench] of Object.entries(parts)) {
    if (values.only !== undefined && values.only !== name) continue
    for (const part of [await bench(directory)].flat()) {
      results.push(part)
      console.log(format(part))
    }
  }
} finally {
  rmSync(directory, { recursive: true, force: true })
}

const missed = results.flatMap(({ rows }) => rows).filter((row) => verdict(row) === false)
console.log(`\n${missed.length === 0 ? 'Every target is met.' : `Targets missed: ${missed.length}.`}`)
// Beside the program: built and run by Node alone, because what tsx does in a thread of its own would count as this process's.
const output = fileURLToPath(new URL('.', import.meta.url))
const file = join(output, `${new Date().toISOString().replaceAll(':', '-')}.json`)
const host = { node: process.versions.node, kernel: release(), cpus: availableParallelism(), load }
writeFileSync(file, `${JSON.stringify({ host, quick: values.quick, parts: results }, null, 2)}\n`)
console.log(`Written to ${file}`)
