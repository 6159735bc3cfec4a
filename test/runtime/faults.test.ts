import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { SyscallError } from '../../src/errors.ts'
import { type Call, call } from '../../src/linux/call.ts'
import type { Plan, PlanOptions } from '../../src/runtime/plan.ts'
import { cannotRun, Sandbox, type SpecChanges, specOf } from './support.ts'

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

describe.skipIf(cannotRun)(`a step that fails (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  const changes: SpecChanges = {
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
  }
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
    await sandbox.run(specOf(['true'], changes), { overlay: overlay('measure') })
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
          .run(specOf(['true'], changes), { overlay: overlay(`${batch}-${position}`) })
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

  it('is named also when the container was to outlive its maker', async () => {
    for (const batch of batches) {
      fault = { batch, position: 3 }
      const made = sandbox.run(specOf(['true'], changes), { overlay: overlay(`detached-${batch}`), detach: true })
      await expect(made).rejects.toMatchObject({ code: 'ERR_OCI_RUNTIME' })
      await sandbox.expectNothingLeft()
    }
  })
})
