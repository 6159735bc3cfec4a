import type { ContainerStatus } from '../bundle/state.ts'
import { NotFoundError } from '../errors.ts'
import { quote } from '../internal/text.ts'
import { statusOf } from '../runtime/lookup.ts'
import { type ContainerRecord, readRecord } from '../runtime/state-directory.ts'
import type { Store } from '../store/index.ts'
import { Container } from './container.ts'
import { type DetachedRecord, detachedRecords } from './detached-record.ts'
import { DetachedRunner } from './detached-runner.ts'

/** A detached container, as a list shows it. */
export interface ContainerSummary {
  readonly id: string
  readonly name: string
  /** Canonical name of its image. */
  readonly image: string
  /** `stopped` also when the machine has been restarted since. */
  readonly status: ContainerStatus
  readonly created: Date
}

/** The detached containers of a store, the oldest first. */
export async function listDetached(store: Store): Promise<readonly ContainerSummary[]> {
  const records = await detachedRecords(store)
  return Promise.all(
    records.map(async (record) => {
      const { id, name, image, created } = record
      const found = await runtimeRecord(record)
      const status = found === undefined ? 'stopped' : statusOf(found)
      return { id, name, image: image.reference, status, created: new Date(created) }
    }),
  )
}

/** A handle to the detached container `wanted`, by its id or else its name. @throws NotFoundError */
export async function attachTo(store: Store, wanted: string): Promise<Container> {
  const records = await detachedRecords(store)
  const record = records.find(({ id }) => id === wanted) ?? records.find(({ name }) => name === wanted)
  if (record === undefined) {
    throw new NotFoundError(wanted, `there is no detached container ${quote(wanted)}`, {
      hint: 'containers() lists them. One that was not made with detach belongs to the process that made it.',
    })
  }
  const pid = (await runtimeRecord(record))?.pid ?? 0
  return handle(new DetachedRunner(store, record, pid, []), record)
}

/** The handle of a detached container. */
export function handle(runner: DetachedRunner, record: DetachedRecord): Container {
  const { name, image, execution, stopSignal, stopTimeout } = record
  return new Container({ name, image, execution, runner, stopSignal, stopTimeout })
}

async function runtimeRecord({ id, stateRoot }: DetachedRecord): Promise<ContainerRecord | undefined> {
  try {
    return await readRecord(stateRoot, id)
  } catch (error) {
    if (error instanceof NotFoundError) return undefined
    throw error
  }
}
