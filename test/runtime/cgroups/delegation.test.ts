import { execFileSync, spawnSync } from 'node:child_process'
import { chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import type { LinuxResources, Mount } from '../../../src/bundle/index.ts'
import { hostHierarchies } from '../../../src/runtime/cgroups/hierarchies.ts'
import { cannotRun, dockerMounts, Sandbox, specOf } from '../support.ts'

const { v1, v2 } = hostHierarchies()
/** Where the machine that tests boot has it; elsewhere it would be run by tsx. */
const program = '/app/outcome.mjs'
const cannot =
  cannotRun ??
  (v1.length > 0 || v2 === undefined
    ? 'needs cgroup version 2 alone'
    : existsSync(program)
      ? undefined
      : 'needs the machine of the tests')

interface Outcome {
  readonly status?: { readonly code: number }
  readonly output?: string
  readonly message?: string
}

const user = 1000

describe.skipIf(cannot)(`an ordinary user with a cgroup that was handed over (${cannot ?? 'uid 1000'})`, () => {
  const mountPoint = v2?.mountPoint ?? ''
  const delegated = join(mountPoint, `oci-ts-user-${process.pid}`)
  let sandbox: Sandbox
  let home: string
  beforeAll(() => {
    sandbox = new Sandbox()
    home = join(sandbox.directory, 'home')
    mkdirSync(home)
    for (const path of [sandbox.directory, sandbox.bundle, sandbox.rootfs, home]) chownSync(path, user, user)
    execFileSync('chown', ['-R', `${user}:${user}`, sandbox.rootfs])
  })
  beforeEach(() => {
    writeFileSync(join(mountPoint, 'cgroup.subtree_control'), '+memory +pids +cpu')
    mkdirSync(join(delegated, 'session'), { recursive: true })
    const files = ['cgroup.procs', 'cgroup.subtree_control', 'cgroup.threads']
    for (const name of ['', ...files, 'session', ...files.map((file) => `session/${file}`)]) {
      chownSync(join(delegated, name), user, user)
    }
  })
  afterEach(() => {
    rmdirSync(join(delegated, 'session'))
    // What the containers had is gone.
    expect(readdirSync(delegated, { withFileTypes: true }).filter((entry) => entry.isDirectory())).toEqual([])
    rmdirSync(delegated)
  })
  afterAll(() => sandbox.remove())

  /** Runs a script in a container as that user, out of the session's cgroup. */
  function run(script: string, resources: LinuxResources, session = join(delegated, 'session')): Outcome {
    const ids = [{ containerID: 0, hostID: user, size: 1 }]
    const mounts = dockerMounts
      .map((mount): Mount => ({ ...mount, options: (mount.options ?? []).filter((option) => option !== 'gid=5') }))
      .map((mount) => (mount.type === 'cgroup' ? { ...mount, options: ['rw'] } : mount))
    const namespaces = (['pid', 'network', 'ipc', 'uts', 'mount', 'cgroup', 'user'] as const).map((type) => ({ type }))
    const linux = { namespaces, uidMappings: ids, gidMappings: ids, resources }
    const spec = specOf(['sh', '-c', script], { mounts, linux })
    const options = { id: sandbox.id(), spec, bundle: sandbox.bundle, stateRoot: join(home, 'state') }
    const env = { PATH: '/bin', HOME: home, XDG_RUNTIME_DIR: home }
    // A child is born where its parent is.
    writeFileSync(join(session, 'cgroup.procs'), String(process.pid))
    const args = [program, JSON.stringify(options), home]
    const { stdout, stderr } = spawnSync('node', args, { encoding: 'utf8', env, uid: user, gid: user })
    writeFileSync(join(mountPoint, 'cgroup.procs'), String(process.pid))
    expect(stderr).toBe('')
    return JSON.parse(stdout) as Outcome
  }

  it('has limits there that hold', () => {
    const script = 'cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max; tail /dev/zero; echo ended with $?'
    const { output, status, message } = run(script, {
      memory: { limit: 16 << 20, swap: 16 << 20 },
      pids: { limit: 20 },
    })
    expect(message).toBeUndefined()
    expect(output).toMatch(/^16777216\n20\n(?:.*\n)*ended with 137\n$/)
    expect(status).toMatchObject({ code: 0, oomKilled: true })
  })

  it('is in a cgroup of its own without limits, and makes others in it', () => {
    const script = 'mkdir /sys/fs/cgroup/inner && echo 0 >/sys/fs/cgroup/inner/cgroup.procs && cat /proc/self/cgroup'
    expect(run(script, {})).toMatchObject({ output: '0::/inner\n' })
  })

  it('is refused limits, with the reason, where nothing was handed over', () => {
    const elsewhere = join(mountPoint, `oci-ts-elsewhere-${process.pid}`)
    mkdirSync(elsewhere)
    const { message } = run('true', { pids: { limit: 20 } }, elsewhere)
    expect(message).toMatch(/may not change the cgroup/)
    expect(run('echo ran', {}, elsewhere)).toMatchObject({ output: 'ran\n' })
    rmdirSync(elsewhere)
    expect(readFileSync(join(mountPoint, 'cgroup.procs'), 'utf8')).not.toBe('')
  })
})
