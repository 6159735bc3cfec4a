import { readFileSync } from 'node:fs'

/** What one way of doing something took. */
export interface Sample {
  /** Milliseconds of each repetition, in order. */
  readonly times: readonly number[]
  /** CPU milliseconds of all repetitions, of the process and its children. */
  readonly cpu: number
}

/** Something that can be measured, over and over. */
export interface Contestant {
  readonly name: string
  /** Does it once. Resolves with the milliseconds it took. */
  run(): Promise<number>
  /** CPU milliseconds that it has used so far. */
  cpu(): number
}

/** How repetitions are spread. */
export interface Schedule {
  /** Of each contestant. */
  readonly repetitions: number
  /** Repetitions in a row before it is the next one's turn. */
  readonly block: number
  /** Milliseconds of silence before each. */
  readonly pause?: number
  /** Repetitions before the first that counts. Default 2. */
  readonly warmUp?: number
}

/** Measures the contestants in turns, so that whatever else the machine does hits all of them. */
export async function alternate(
  contestants: readonly Contestant[],
  schedule: Schedule,
): Promise<ReadonlyMap<string, Sample>> {
  const { repetitions, block, pause = 0, warmUp = 2 } = schedule
  const times = new Map<string, number[]>(contestants.map(({ name }) => [name, []]))
  const cpu = new Map<string, number>(contestants.map(({ name }) => [name, 0]))
  for (const contestant of contestants) for (let i = 0; i < warmUp; i++) await contestant.run()
  for (let done = 0; done < repetitions; done += block) {
    for (const contestant of contestants) {
      const before = contestant.cpu()
      for (let i = done; i < Math.min(done + block, repetitions); i++) {
        if (pause > 0) await silence(pause)
        times.get(contestant.name)?.push(await contestant.run())
      }
      cpu.set(contestant.name, (cpu.get(contestant.name) ?? 0) + contestant.cpu() - before)
    }
  }
  return new Map(contestants.map(({ name }) => [name, { times: times.get(name) ?? [], cpu: cpu.get(name) ?? 0 }]))
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = Math.floor(sorted.length / 2)
  const upper = sorted[middle] ?? Number.NaN
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] ?? Number.NaN)) / 2
}

/** The tenth of the values below which the machine was hardly disturbed: what is left of a median on a busy one. */
export function tenth(values: readonly number[], tenths = 1): number {
  return [...values].sort((a, b) => a - b)[Math.floor((values.length * tenths) / 10)] ?? Number.NaN
}

/** CPU milliseconds of a process's children that have ended and were waited for, in steps of 10. */
export function childrenCpu(pid: number | 'self'): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
  // After the name, which may hold anything: the 14th and 15th field are cutime and cstime (proc_pid_stat(5)).
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
  return (Number(fields[13]) + Number(fields[14])) * 10
}

/** CPU milliseconds of this process, all of its threads, and its children, also of those that have not ended. */
export function ownCpu(): number {
  const { user, system } = process.cpuUsage()
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').split(' ')
  const living = children.filter((pid) => pid !== '').map((pid) => processCpu(pid))
  return (user + system) / 1000 + childrenCpu('self') + living.reduce((all, each) => all + each, 0)
}

/** CPU milliseconds of a process and its children that it has waited for, in steps of 10; 0 when it is gone. */
function processCpu(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return fields.slice(11, 15).reduce((all, ticks) => all + Number(ticks), 0) * 10
  } catch {
    return 0
  }
}

export function silence(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
