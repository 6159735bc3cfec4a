import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { alternate, type Contestant, childrenCpu, median } from './measure.ts'
import { atMost, type Part } from './result.ts'

/** How much longer a script takes that imports oci-ts than an empty one. */
export async function benchImport(directory: string, quick: boolean): Promise<Part> {
  const script = (name: string, text: string): Contestant => {
    const path = join(directory, `${name.replace(/\W/g, '-')}.mjs`)
    writeFileSync(path, text)
    return {
      name,
      async run() {
        const started = performance.now()
        const { status } = spawnSync(process.execPath, [path], { stdio: 'inherit' })
        if (status !== 0) throw new Error(`${path} ended with ${status}`)
        return performance.now() - started
      },
      cpu: () => childrenCpu('self'),
    }
  }
  const entry = import.meta.resolve('oci-ts')
  const samples = await alternate([script('empty', ''), script('import', `import ${JSON.stringify(entry)}\n`)], {
    repetitions: quick ? 11 : 41,
    block: 1,
  })
  const empty = samples.get('empty')?.times ?? []
  const loading = samples.get('import')?.times ?? []
  return {
    title: `import('oci-ts'), Node ${process.versions.node}`,
    rows: [
      { what: 'beyond an empty script, median', unit: 'ms', ours: median(loading) - median(empty), target: atMost(60) },
      { what: 'beyond an empty script, fastest', unit: 'ms', ours: Math.min(...loading) - Math.min(...empty) },
      { what: 'an empty script, median', unit: 'ms', ours: median(empty) },
    ],
    notes: [],
  }
}
