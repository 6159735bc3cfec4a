import { writeFileSync } from 'node:fs'
import { RuntimeError } from '../errors.ts'

/** Sets the out-of-memory score of a process in a user namespace, which could not lower it itself. */
export function writeOomScore(pid: number, score: number): void {
  try {
    writeFileSync(`/proc/${pid}/oom_score_adj`, String(score))
  } catch (cause) {
    const options = { step: 'set /proc/self/oom_score_adj', pointer: '/process/oomScoreAdj', cause }
    throw new RuntimeError(`the kernel refuses the out-of-memory score ${score}`, options)
  }
}
