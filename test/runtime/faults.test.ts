import { chmodSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { SyscallError } from '../../src/errors.ts'
import { type Call, call } from '../../src/linux/call.ts'
import type { CreateOptions } from '../../src/runtime/index.ts'
import type { Plan, PlanOptions } from '../../src/runtime/plan.ts'
import { allNamespaces, cannotRun, dockerMounts, Sandbox, type SpecChanges, specOf } from './support.ts'

type Batch = 'monitor' | 'setup' | 'finish' | 'start'
const batches: readonly Batch[] = ['monitor', 'setup', 'finish', 'start']

/** Which call is to fail: the one at that position of a batch. What was there is recorded. */
let fault: { readonly batch: Batch; readonly position: number } | undefined
let failed: Call | undefined
const sizes = new Map<Batch, number>()

vi.mock('../../src/runtime/plan.ts', async (original) => {
  const module = await original<typeof import('../../src/runtime/plan.ts')>()
  return { ...module, planContainer: (options: PlanOptions) => withFault(module.planContainer(options)) }
})

function withFault(plan: Plan): Plan {
  const spoil = (batch: Batch, calls: readonly Call[]): readonly Call[] => {
    sizes.set(batch, calls.length)
    if (fault?.batch !== batch) return calls
    failed = calls[fault.position]
    // The descriptor is none: the kernel refuses with EBADF, whatever call it is put for.
    const { step, pointer } = failed as Call
    const broken = {
      ...call('close', [-1]),
      ...(step === undefined ? {} : { step }),
      ...(pointer === undefined ? {} : { pointer }),
    }
    return calls.toSpliced(fault.position, 0, broken)
  }
  const { start } = plan
  return {
    ...plan,
    monitor: spoil('monitor', plan.monitor),
    setup: spoil('setup', plan.setup),
    finish: (found) => spoil('finish', plan.finish(found)),
    start: start === undefined ? undefined : (program, pid) => spoil('start', start(program, pid)),
  }
}

const mapped = [{ containerID: 0, hostID: 100_000, size: 65_536 }]

interface Variant {
  readonly name: string
  readonly changes: SpecChanges
  /** Only for containers that go with their maker. */
  readonly options?: Partial<CreateOptions>
}

/** Containers whose steps differ. */
const variants: readonly Variant[] = [
  {
    name: "with Docker's settings",
    changes: {
      hostname: 'box',
      root: { path: 'rootfs', readonly: true },
      process: {
        rlimits: [{ type: 'RLIMIT_CORE', soft: 0, hard: 0 }],
        capabilities: { bounding: ['CAP_CHOWN'], permitted: ['CAP_CHOWN'], effective: ['CAP_CHOWN'] },
        oomScoreAdj: 100,
        noNewPrivileges: true,
      },
      linux: {
        ...specOf([]).linux,
        resources: { memory: { limit: 64 << 20 }, cpu: { shares: 512 }, pids: { limit: 10 } },
        maskedPaths: ['/proc/keys', '/sys/firmware'],
        readonlyPaths: ['/proc/sys'],
      },
    },
  },
  {
    name: 'in user and time namespaces, with owners that are mapped',
    changes: {
      mounts: [
        ...dockerMounts,
        { type: 'bind', source: '/usr/share', destination: '/tmp', options: ['bind', 'idmap', 'ro'] },
      ],
      linux: {
        namespaces: [...allNamespaces, 'user' as const, 'time' as const].map((type) => ({ type })),
        uidMappings: mapped,
        gidMappings: mapped,
        timeOffsets: { monotonic: { secs: 100, nanosecs: 0 } },
      },
    },
  },
  {
    name: 'with hooks, and a function that answers system calls',
    changes: { hooks: { createContainer: [{ path: '/bin/true' }], poststop: [{ path: '/bin/true' }] } },
    options: { onSyscall: { mkdir: () => Promise.resolve('continue' as const) } },
  },
]

describe.skipIf(cannotRun).each(variants)(
  `a step that fails (${cannotRun ?? 'in real containers'}) $name`,
  ({ changes, options }) => {
    let sandbox: Sandbox
    beforeAll(async () => {
      sandbox = new Sandbox()
      for (const path of [sandbox.directory, sandbox.bundle]) chmodSync(path, 0o755)
      await sandbox.remember()
      sizes.clear()
      await sandbox.run(specOf(['true'], changes), { ...options, overlay: overlay('measure') })
    })
    afterEach(async () => {
      fault = undefined
      await sandbox.expectNothingLeft()
    })
    afterAll(() => sandbox.remove())

    const overlay = (name: string) => {
      const [upper, work] = [join(sandbox.directory, name, 'upper'), join(sandbox.directory, name, 'work')]
      for (const path of [upper, work]) mkdirSync(path, { recursive: true })
      return { lower: [sandbox.rootfs], upper, work }
    }

    it.each(batches)(
      'is named, and nothing is left, at every call of the batch %s',
      { timeout: 120_000 },
      async (batch) => {
        const size = sizes.get(batch) as number
        expect(size).toBeGreaterThan(5)
        for (let position = 0; position < size; position++) {
          fault = { batch, position }
          const error = await sandbox
            .run(specOf(['true'], changes), { ...options, overlay: overlay(`${batch}-${position}`) })
            .catch((reason: unknown) => reason)
          const where = `${batch} ${position}: ${failed?.name} ${failed?.step}`
          expect(error, where).toMatchObject({
            code: 'ERR_OCI_RUNTIME',
            step: failed?.step ?? 'close',
            pointer: failed?.pointer,
            cause: expect.any(SyscallError),
          })
          await sandbox.expectNothingLeft()
        }
      },
    )

    if (options === undefined)
      it('is named also when the container was to outlive its maker', async () => {
        for (const batch of batches) {
          fault = { batch, position: 3 }
          const made = sandbox.run(specOf(['true'], changes), {
            overlay: overlay(`detached-${batch}`),
            detach: true,
          })
          await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME' })
          await sandbox.expectNothingLeft()
        }
      })
  },
)
