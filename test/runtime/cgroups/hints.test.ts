import { spawn } from 'node:child_process'
import { mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, describe, expect, it, onTestFinished } from 'vitest'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'
import { cannotRun, Sandbox, specOf } from '../support.ts'

const mountPoint = hostHierarchies().v2?.mountPoint
const domain = ['hugetlb', 'memory', 'io'].find((name) =>
  (mountPoint === undefined ? '' : readFileSync(join(mountPoint, 'cgroup.controllers'), 'utf8')).includes(name),
)
const reason = cannotRun ?? (domain !== 'hugetlb' ? 'needs a version 2 tree with hugetlb' : undefined)

describe.skipIf(reason !== undefined)('a cgroup that no container can be in', () => {
  const sandbox = new Sandbox()
  afterAll(() => sandbox.remove())
  const parent = (): string => {
    const path = `oci-ts-hints-${sandbox.id()}`
    make(path)
    return path
  }
  const make = (path: string): void => {
    const directory = join(mountPoint ?? '', path)
    mkdirSync(directory)
    onTestFinished(() => rmdirSync(directory))
  }
  const hugepageLimits = [{ pageSize: '2MB', limit: 0 }]

  it('is told of when the one above has processes', async () => {
    const path = parent()
    const child = spawn('sleep', ['1000'])
    const ended = new Promise((resolve) => child.once('exit', resolve))
    onTestFinished(async () => {
      child.kill()
      await ended
    })
    writeFileSync(join(mountPoint ?? '', path, 'cgroup.procs'), String(child.pid))
    const linux = { cgroupsPath: `/${path}/c`, resources: { hugepageLimits } }
    const created = sandbox.create(specOf(['true'], { linux }))
    await expect(created).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      hint: expect.stringContaining('has processes of its own'),
    })
  })

  it('is told of when the one above is threaded', async () => {
    const path = parent()
    make(`${path}/threads`)
    writeFileSync(join(mountPoint ?? '', path, 'threads/cgroup.type'), 'threaded')
    const created = sandbox.create(specOf(['true'], { linux: { cgroupsPath: `/${path}/c` } }))
    await expect(created).rejects.toMatchObject({
      code: 'ERR_OCI_RUNTIME',
      hint: expect.stringContaining('is threaded'),
    })
  })
})
