import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { createSpec } from '../../src/bundle/index.ts'
import { cannotRun, Sandbox } from './support.ts'

describe.skipIf(cannotRun)(`a container with the default settings of run (${cannotRun ?? 'a real one'})`, () => {
  let sandbox: Sandbox
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(() => sandbox.expectNothingLeft())
  afterAll(() => sandbox.remove())

  /** As `run` makes it: all masks, read-only paths, devices, capabilities and the seccomp filter. */
  const spec = (script: string, terminal = false) =>
    createSpec(undefined, { id: 'defaults', command: ['sh', '-c', script], env: { PATH: '/bin' }, terminal })

  it('masks files and directories, each for itself', async () => {
    for (const name of ['one', 'two']) {
      mkdirSync(join(sandbox.rootfs, 'secrets', name), { recursive: true })
      writeFileSync(join(sandbox.rootfs, 'secrets', name, 'key'), 'secret')
    }
    const { linux, ...others } = spec('true')
    const maskedPaths = [...(linux?.maskedPaths ?? []), '/secrets/one', '/secrets/one/key', '/secrets/two']
    const show = 'if [ -d $p ]; then ls -A $p; touch $p/x 2>/dev/null && echo written; elif [ -e $p ]; then cat $p; fi'
    const script = `for p in ${maskedPaths.join(' ')}; do ${show}; done; grep -c " /secrets/" /proc/self/mountinfo`
    const { stdout, stderr, status } = await sandbox.run({
      ...others,
      process: { ...spec(script).process, cwd: '/' },
      linux: { ...linux, maskedPaths },
    })
    expect({ stdout, stderr, code: status.code }).toEqual({ stdout: '3\n', stderr: '', code: 0 })
  })

  it('keeps read-only paths from being written to', async () => {
    const { linux } = spec('true')
    const paths = linux?.readonlyPaths ?? []
    expect(paths).toContain('/proc/sys')
    const each = 'if [ -e $p ]; then grep -q " $p ro" /proc/self/mountinfo || grep " $p " /proc/self/mountinfo; fi'
    const script = `for p in ${paths.join(' ')}; do ${each}; done; echo 1 >/proc/sys/vm/swappiness`
    const { stdout, stderr } = await sandbox.run(spec(script))
    expect({ stdout, refused: stderr.includes('Read-only file system') }).toEqual({ stdout: '', refused: true })
  })

  it('has devices, a filter and a terminal, and runs further processes with them', async () => {
    const script =
      'trap exit TERM; test -c /dev/null && tty && grep Seccomp: /proc/self/status; while :; do sleep 0.01; done'
    const container = await sandbox.create(spec(script, true))
    let text = ''
    const shown = new Promise<void>((resolve) => {
      container.terminal?.on('data', (chunk: Buffer) => {
        text += chunk
        if (/Seccomp:[^\n]*\n/.test(text)) resolve()
      })
    })
    await container.start()
    await shown
    expect(text.replace(/\s+/g, ' ')).toBe('/dev/pts/0 Seccomp: 2 ')
    const ran = await container.exec({ args: ['sh', '-c', 'tty && cat /proc/keys'], terminal: true })
    let inside = ''
    for await (const chunk of ran.terminal ?? []) inside += chunk
    expect([inside.replace(/\s+/g, ' '), (await ran.exited).code]).toEqual(['/dev/pts/1 ', 0])
    await container.delete({ force: true })
  })
})
