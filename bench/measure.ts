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
  /**
   * Milliseconds of silence before each, and after it: what is still done then counts as well, less what the silence before
   * took, in which this process only waits.
   */
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
      let waiting = 0
      for (let i = done; i < Math.min(done + block, repetitions); i++) {
        if (pause > 0) waiting += 2 * (await cpuOf(contestant, () => silence(pause)))
        times.get(contestant.name)?.push(await contestant.run())
        if (pause > 0) await silence(pause)
      }
      cpu.set(contestant.name, (cpu.get(contestant.name) ?? 0) + contestant.cpu() - before - waiting)
    }
  }
  return new Map(contestants.map(({ name }) => [name, { times: times.get(name) ?? [], cpu: cpu.get(name) ?? 0 }]))
}

async function cpuOf(contestant: Contestant, act: () => Promise<void>): Promise<number> {
  const before = contestant.cpu()
  await act()
  return contestant.cpu() - before
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

/** CPU milliseconds that each child had used when it was last seen. */
const seen = new Map<string, number>()

/** CPU milliseconds that it took to look at them. */
let looking = 0

/**
 * CPU milliseconds of this process, all of its threads, and of its children, to the microsecond, but not what it took to ask.
 * Those of what the children have waited for are not in it: the kernel tells them in steps of 10 only.
 */
export function ownCpu(): number {
  const before = processCpu()
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'latin1').split(' ')
  for (const pid of children) {
    const used = pid === '' ? undefined : nanosecondsOf(pid)
    if (used !== undefined) seen.set(pid, used / 1e6)
  }
  const ofChildren = [...seen.values()].reduce((all, each) => all + each, 0)
  const after = processCpu()
  looking += after - before
  return after - looking + ofChildren
}

function processCpu(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1000
}

/** What a process of one thread has used (proc_pid_schedstat(5)); undefined when it is gone. */
function nanosecondsOf(pid: string): number | undefined {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'latin1').split(' ')[0])
  } catch {
    return undefined
  }
}

export function silence(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}
