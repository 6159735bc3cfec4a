import { writeFileSync } from 'node:fs'
import type { Spec } from '../bundle/spec.ts'
import { RuntimeError } from '../errors.ts'
import { thisHost } from './host.ts'
import type { NamespacePlan } from './namespaces.ts'

/** Sets the out-of-memory score of a process in a user namespace, new or joined, which has not the right to. */
export function setOomScore(pid: number, { process }: Spec, namespaces: NamespacePlan): void {
  const score = process?.oomScoreAdj
  if (score === undefined || !namespaces.has('user') || thisHost().uid !== 0) return
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(score))
  } catch (cause) {
    const options = { step: 'set /proc/self/oom_score_adj', pointer: '/process/oomScoreAdj', cause }
    throw new RuntimeError(`the kernel refuses the out-of-memory score ${score}`, options)
  }
}
