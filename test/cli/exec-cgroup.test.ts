import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { hostHierarchies, v1MountPoint } from '../../src/runtime/cgroups/hierarchies.ts'
import { cannotRun, Sandbox, specOf } from '../runtime/support.ts'
import { CommandLine } from './support.ts'

const controllers = ['cpu', 'memory', 'pids']
const isThere = (controller: string): boolean => v1MountPoint(hostHierarchies(), controller) !== undefined
const why = cannotRun ?? (controllers.every(isThere) ? undefined : 'needs cgroups of version 1')

describe.skipIf(why)(`exec --cgroup (${why ?? 'of version 1'})`, () => {
  let oci: CommandLine
  let sandbox: Sandbox
  let id: string
  beforeAll(async () => {
    oci = new CommandLine()
    sandbox = new Sandbox()
    const container = await sandbox.create(specOf(['sleep', '1000']), { accounting: true })
    await container.start()
    id = container.id
  })
  afterAll(async () => {
    oci.remove()
    await sandbox.removeContainers()
    sandbox.remove()
  })

  const exec = (cgroups: readonly string[], ...command: readonly string[]) =>
    oci.run(['--root', sandbox.stateRoot, 'exec', ...cgroups.flatMap((each) => ['--cgroup', each]), id, ...command])
  /** Where a process ends up, by controller. */
  const paths = (...cgroups: readonly string[]): readonly (string | undefined)[] => {
    const { stdout } = exec(cgroups, 'cat', '/proc/self/cgroup')
    return controllers.map((name) => new RegExp(`[:,]${name}(?:,.*?)?:(/.*)$`, 'm').exec(stdout)?.[1])
  }

  it("goes below the container's, in all hierarchies or by controller", () => {
    expect(paths('a')).toEqual(['/a', '/a', '/a'])
    expect(paths('cpu,memory:/b')).toEqual(['/b', '/b', '/'])
    expect(paths('cpu:b', 'memory:c')).toEqual(['/b', '/c', '/'])
  })

  it.each([['cpu:memory:/b'], ['cpu:/../b'], ['none:/b'], ['a', 'cpu:b']])('refuses %s', (...cgroups) => {
    expect(exec(cgroups, 'true')).toMatchObject({ status: 255, stdout: '' })
  })
})
