import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import type { Host } from '../../src/runtime/host.ts'
import { cannotRun, makeRootfs, Sandbox, specOf } from './support.ts'

let kernel: readonly [number, number] | undefined

vi.mock('../../src/runtime/host.ts', async (original) => {
  const module = await original<typeof import('../../src/runtime/host.ts')>()
  return { ...module, thisHost: (): Host => ({ ...module.thisHost(), ...(kernel === undefined ? {} : { kernel }) }) }
})

/** Turns on what overlays have by default. @returns what puts it back. */
function turnOn(...names: readonly string[]): () => void {
  const before = names.map((name) => {
    const path = `/sys/module/overlay/parameters/${name}`
    return [path, readFileSync(path, 'utf8')] as const
  })
  for (const [path] of before) writeFileSync(path, 'Y')
  return () => {
    for (const [path, value] of before) writeFileSync(path, value)
  }
}

const forms = [
  ['one layer at a time (Linux 6.7 and newer)', undefined],
  ['all layers in one string', [5, 15]],
] as const

describe.skipIf(cannotRun).each(forms)(`an overlay as root, %s (${cannotRun ?? 'really'})`, (_, version) => {
  let sandbox: Sandbox
  let lower: readonly string[]
  let count = 0
  beforeAll(async () => {
    kernel = version
    sandbox = new Sandbox()
    const base = join(sandbox.directory, 'base')
    const middle = join(sandbox.directory, 'a layer: with, odd \\ name')
    const top = join(sandbox.directory, 'top')
    makeRootfs(base)
    for (const [layer, name] of [
      [base, 'base'],
      [middle, 'middle'],
      [top, 'top'],
    ] as const) {
      mkdirSync(layer, { recursive: true })
      writeFileSync(join(layer, name), name)
      writeFileSync(join(layer, 'same'), name)
    }
    lower = [top, middle, base]
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => {
    kernel = undefined
    sandbox.remove()
  })

  const overlay = () => {
    const directory = join(sandbox.directory, `writable, ${++count}`)
    const [upper, work] = [join(directory, 'upper'), join(directory, 'work')]
    for (const path of [upper, work]) mkdirSync(path, { recursive: true })
    return { lower, upper, work }
  }

  it('shows the layers, the topmost first', async () => {
    expect(await sandbox.sh('cat /same /base /middle /top', {}, { overlay: overlay() })).toBe('topbasemiddletop')
  })

  it('keeps changes in the upper directory', async () => {
    const layers = overlay()
    await sandbox.sh('echo new >/new; rm /base; echo changed >/same', {}, { overlay: layers })
    expect(readFileSync(join(layers.upper, 'new'), 'utf8')).toBe('new\n')
    expect(readFileSync(join(layers.upper, 'same'), 'utf8')).toBe('changed\n')
    expect(statSync(join(layers.upper, 'base')).isCharacterDevice()).toBe(true)
    expect(existsSync(join(lower[2] as string, 'base'))).toBe(true)
    expect(readdirSync(lower[0] as string).sort()).toEqual(['same', 'top'])
  })

  it('has plain files in the upper directory, whatever the default of the machine', async () => {
    const layers = overlay()
    const directory = join(lower[2] as string, 'moved')
    mkdirSync(directory, { recursive: true })
    writeFileSync(join(directory, 'file'), 'content')
    const restore = turnOn('redirect_dir', 'metacopy', 'index')
    try {
      await sandbox.sh('mv /moved /elsewhere; chmod 600 /same', {}, { overlay: layers })
    } finally {
      restore()
      rmSync(directory, { recursive: true })
    }
    expect(readFileSync(join(layers.upper, 'elsewhere/file'), 'utf8')).toBe('content')
    expect(readFileSync(join(layers.upper, 'same'), 'utf8')).toBe('top')
    // Nothing is left that ties it to these layers: it can be mounted on others.
    expect(await sandbox.sh('cat /same', {}, { overlay: { ...layers, lower: [lower[2] as string] } })).toBe('top')
  })

  it('may be volatile', async () => {
    const mountinfo = await sandbox.sh('cat /proc/self/mountinfo', {}, { overlay: { ...overlay(), volatile: true } })
    expect(mountinfo).toMatch(/ - overlay .*volatile/)
  })

  it('is read-only without an upper directory', async () => {
    const script = 'cat /same; touch /x 2>/dev/null || echo refused'
    expect(await sandbox.sh(script, {}, { overlay: { lower } })).toBe('toprefused\n')
  })

  it('is mounted nowhere on the host', async () => {
    const container = await sandbox.create(specOf(['sleep', '1000']), { overlay: overlay() })
    await container.start()
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(sandbox.directory)
    await container.delete({ force: true })
  })

  it('is one layer, read-only, without an upper directory', async () => {
    const script = 'cat /same; touch /x 2>/dev/null || echo refused'
    expect(await sandbox.sh(script, {}, { overlay: { lower: [lower[2] as string] } })).toBe('baserefused\n')
  })

  it('takes paths as long as paths can be', async () => {
    const deep = join(sandbox.directory, ...Array.from({ length: 3 }, () => 'z'.repeat(200)))
    const [top, upper, work] = [join(deep, 'top'), join(deep, 'upper'), join(deep, 'work')]
    for (const path of [top, upper, work]) mkdirSync(path, { recursive: true })
    writeFileSync(join(top, 'same'), 'deep')
    const layers = { lower: [top, ...lower], upper, work }
    expect(await sandbox.sh('cat /same; echo new >/new', {}, { overlay: layers })).toBe('deep')
    expect(readdirSync(upper)).toContain('new')
  })

  it.each([130, 400])('takes %d layers, which do not fit on a page', async (count) => {
    const deep = join(sandbox.directory, 'x'.repeat(60))
    const many = Array.from({ length: count }, (_, n) => {
      const layer = join(deep, `layer-${n}-${'y'.repeat(40)}`)
      mkdirSync(layer, { recursive: true })
      writeFileSync(join(layer, `file-${n}`), '')
      return layer
    })
    const stdout = await sandbox.sh(
      'ls / | grep -c ^file-',
      {},
      { overlay: { ...overlay(), lower: [...many, ...lower] } },
    )
    expect(stdout).toBe(`${count}\n`)
  })

  it('names the step when a layer is missing', async () => {
    const layers = { ...overlay(), lower: [join(sandbox.directory, 'no-layer'), ...lower] }
    await expect(sandbox.create(specOf(['true']), { overlay: layers })).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      step: 'prepare the root filesystem',
    })
  })
})
