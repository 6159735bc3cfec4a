import { join } from 'node:path'
import { ConflictError, NotFoundError } from '../errors.ts'
import { SIGKILL } from '../linux/calls/processes.ts'
import { thawV1 } from './cgroups/freezer.ts'
import { locateCgroup } from './cgroups/location.ts'
import { removeCgroup } from './cgroups/remove.ts'
import { runPoststopHooks } from './hooks.ts'
import { signalFirstProcess } from './kill.ts'
import { type LookupOptions, statusOf } from './lookup.ts'
import { removeResctrl } from './resctrl.ts'
import { removeRootMount } from './root-mount.ts'
import {
  type ContainerRecord,
  defaultStateRoot,
  inStateDirectory,
  readConfig,
  readRecord,
  removeStateDirectory,
  StateDirectory,
} from './state-directory.ts'
import { sweepOne } from './sweep.ts'
import { stopScope } from './systemd/scope.ts'
import { endOf, untilEnded } from './wait.ts'

/** Options of {@link deleteContainer}. */
export interface DeleteOptions extends LookupOptions {
  /** Kill it when it runs. Default false. */
  readonly force?: boolean | undefined
}

/**
 * Deletes a container of any process: what create made for it is removed (runtime-spec, runtime.md, "Delete").
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it runs and is not to be killed,
 * or is still being made by a process that lives. @throws SpecError when another version has recorded it.
 */
export async function deleteContainer(id: string, options: DeleteOptions = {}): Promise<void> {
  const root = options.stateRoot ?? defaultStateRoot()
  const record = await readRecord(root, id).catch(async (error: unknown) => {
    // Its maker may have been killed between making the directory and recording anything in it.
    if (error instanceof NotFoundError) await sweepOne(root, id)
    throw error
  })
  await inStateDirectory(root, id, (check) => deleteRecorded(root, record, options, check))
}

/** @param check throws when it was deleted by somebody else meanwhile: there may be another one of that id */
async function deleteRecorded(
  root: string,
  record: ContainerRecord,
  options: DeleteOptions,
  check: () => void,
): Promise<void> {
  const { id } = record
  const status = statusOf(record)
  if (status === 'running' && options.force !== true) {
    const hint = 'Stop it before, or delete it with force.'
    throw new ConflictError(id, `container ${id} is running`, { hint })
  }
  if (status === 'creating') {
    const abandoned = StateDirectory.tryLock(join(root, id))
    if (abandoned === undefined) throw new ConflictError(id, `container ${id} is still being made`)
    abandoned.release()
  } else {
    signalFirstProcess(record, SIGKILL)
    await thawV1(locateCgroup(record.cgroups))
    await untilEnded(record, undefined)
    // Until its monitor has recorded the end it also works on the cgroup.
    await endOf(root, id)
  }
  check()
  await removeCgroup(record.cgroups)
  await removeResctrl(record.resctrl)
  await stopScope(record.scope)
  removeRootMount(record.rootMount)
  // One that was abandoned while it was made need not have it.
  const spec = await readConfig(root, id).catch(() => undefined)
  check()
  await removeStateDirectory(root, id)
  if (spec !== undefined) await runPoststopHooks({ record, spec, pidfd: undefined })
}
