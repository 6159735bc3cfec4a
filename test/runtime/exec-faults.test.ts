import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { SyscallError } from '../../src/errors.ts'
import { type Call, call } from '../../src/linux/call.ts'
import type { ExecPlan, ExecPlanOptions } from '../../src/runtime/exec-plan.ts'
import type { ExecProcess, RuntimeContainer } from '../../src/runtime/index.ts'
import { cannotRun, Sandbox, specOf } from './support.ts'

type Batch = 'monitor' | 'joiner' | 'become'
const batches: readonly Batch[] = ['monitor', 'joiner', 'become']

/** Which call is to fail: the one at that position of a batch. What was there is recorded. */
let fault: { readonly batch: Batch; readonly position: number } | undefined
let failed: Call | undefined
const sizes = new Map<Batch, number>()

vi.mock('../../src/runtime/exec-plan.ts', async (original) => {
  const module = await original<typeof import('../../src/runtime/exec-plan.ts')>()
  return { ...module, planExec: (options: ExecPlanOptions) => withFault(module.planExec(options)) }
})

function withFault(plan: ExecPlan): ExecPlan {
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
  return {
    ...plan,
    monitor: spoil('monitor', plan.monitor),
    joiner: spoil('joiner', plan.joiner),
    become: (pid) => spoil('become', plan.become(pid)),
  }
}

describe.skipIf(cannotRun)(`a step of an exec that fails (${cannotRun ?? 'in real containers'})`, () => {
  let sandbox: Sandbox
  let container: RuntimeContainer
  const process: ExecProcess = {
    args: ['true'],
    terminal: true,
    consoleSize: { width: 80, height: 25 },
    rlimits: [{ type: 'RLIMIT_CORE', soft: 0, hard: 0 }],
    capabilities: { bounding: ['CAP_CHOWN'], permitted: ['CAP_CHOWN'], effective: ['CAP_CHOWN'] },
    oomScoreAdj: 100,
    noNewPrivileges: true,
    execCPUAffinity: { initial: '0', final: '0' },
  }
  const exec = async (): Promise<void> => {
    const ran = await container.exec(process, { cgroup: 'sub' })
    await ran.exited
    ran.terminal?.destroy()
  }
  beforeAll(async () => {
    sandbox = new Sandbox()
    await sandbox.remember()
  })
  afterEach(async () => {
    fault = undefined
    await sandbox.expectNothingLeft()
  })
  afterAll(() => sandbox.remove())

  it.each(batches)(
    'is named, and nothing is left, at every call of the batch %s',
    { timeout: 120_000 },
    async (batch) => {
      const resources = { memory: { limit: 64 << 20 }, pids: { limit: 20 } }
      container = await sandbox.create(specOf(['sleep', '1000'], { linux: { ...specOf([]).linux, resources } }))
      await container.start()
      await exec()
      const size = sizes.get(batch) as number
      expect(size).toBeGreaterThan(4)
      for (let position = 0; position < size; position++) {
        fault = { batch, position }
        const error = await exec().catch((reason: unknown) => reason)
        expect(error, `${batch} ${position}: ${failed?.name} ${failed?.step}`).toMatchObject({
          code: 'ERR_OCI_RUNTIME',
          step: failed?.step ?? 'close',
          pointer: failed?.pointer,
          cause: expect.any(SyscallError),
        })
      }
      fault = undefined
      // Nobody else is in the container, and it works as before.
      await exec()
      await container.delete({ force: true })
    },
  )
})
