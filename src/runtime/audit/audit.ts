import type { Spec } from '../../bundle/spec.ts'
import { ConflictError } from '../../errors.ts'
import { locateCgroup, textOf } from '../cgroups/location.ts'
import { type LookupOptions, statusOf } from '../lookup.ts'
import { type ContainerRecord, defaultStateRoot, readConfig, readRecord } from '../state-directory.ts'
import type { AuditFinding, AuditSubject } from './finding.ts'
import { auditProcess } from './process.ts'
import { auditCgroup, auditMounts, auditNamespaces } from './surroundings.ts'

/**
 * Compares what a container of any process is with what its config asked for: namespaces, mounts, masks, capabilities,
 * seccomp, no_new_privs, ids, labels, resource limits, cgroup values. What is as it should be is not in the list. Of a
 * container that is not started its process can't be judged yet.
 *
 * Limits that were changed by `update` and mounts that were taken away are differences, too.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it does not run and is not created.
 */
export async function audit(id: string, options: LookupOptions = {}): Promise<readonly AuditFinding[]> {
  const root = options.stateRoot ?? defaultStateRoot()
  return auditRecord(await readRecord(root, id), await readConfig(root, id))
}

/** Compares the container of a record with a config. */
export function auditRecord(record: ContainerRecord, spec: Spec): readonly AuditFinding[] {
  const status = statusOf(record)
  if (status === 'stopped' || status === 'creating') {
    throw new ConflictError(record.id, `container ${record.id} is not running`)
  }
  const { pid } = record
  const subject: AuditSubject = { pid, read: (name) => readOrEmpty(`/proc/${pid}/${name}`) }
  return [
    ...auditNamespaces(spec, subject),
    ...auditMounts(spec, subject),
    ...auditProcess(spec, subject, status === 'running'),
    ...auditCgroup(spec, locateCgroup(record.cgroups)),
  ]
}

/** What an active security module alone has can't be read without one. */
function readOrEmpty(path: string): string {
  try {
    return textOf(path) ?? ''
  } catch {
    return ''
  }
}
