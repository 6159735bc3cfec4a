import { open, readFile } from 'node:fs/promises'
import { ConflictError } from '../errors.ts'
import { locateCgroup } from './cgroups/location.ts'
import { cgroupProcesses } from './cgroups/members.ts'
import { type LookupOptions, statusOf } from './lookup.ts'
import { type ContainerRecord, defaultStateRoot, readRecord } from './state-directory.ts'

/** A process of a container. */
export interface ProcessInfo {
  /** As the host sees it. */
  readonly pid: number
  /** As the container sees it. */
  readonly containerPid: number
  /** Of the host; 0 when it is outside of what this process can see. */
  readonly parent: number
  /** Effective ids, as the host sees them. */
  readonly uid: number
  readonly gid: number
  /** One letter: R running, S sleeping, D waiting for a device, Z ended, T stopped. */
  readonly state: string
  readonly threads: number
  /** Processor time that it used, in milliseconds. */
  readonly cpuTime: number
  /** Resident memory, in bytes. */
  readonly resident: number
  readonly started: Date
  /** Its arguments, of which the first 4 KiB are told; its name when it has none. */
  readonly command: readonly string[]
}

/**
 * The processes of a container of any process, by pid.
 * @throws NotFoundError when there is none of that id. @throws ConflictError when it does not run.
 */
export async function top(id: string, options: LookupOptions = {}): Promise<readonly ProcessInfo[]> {
  return processesOf(await readRecord(options.stateRoot ?? defaultStateRoot(), id))
}

/** The processes of the container of a record. */
export async function processesOf(record: ContainerRecord): Promise<readonly ProcessInfo[]> {
  const status = statusOf(record)
  if (status === 'stopped' || status === 'creating') {
    throw new ConflictError(record.id, `container ${record.id} is not running`)
  }
  const known = await cgroupProcesses(locateCgroup(record.cgroups))
  // Without a cgroup of its own nobody can tell which processes are the container's, but for the first.
  const pids = known.length === 0 ? [record.pid] : known
  const processes = await Promise.all(pids.map(describeProcess))
  return processes.filter((process) => process !== undefined)
}

/** Clock ticks a second: fixed in the kernel's interface (USER_HZ). */
const ticks = 100

/** Bytes of the arguments: thousands of processes of a container can have megabytes of them. */
const longestCommand = 4096

let booted: number | undefined

/** Looks at a process; undefined when it has ended. */
async function describeProcess(pid: number): Promise<ProcessInfo | undefined> {
  try {
    const read = (name: string): Promise<string> => readFile(`/proc/${pid}/${name}`, 'utf8')
    const [status, stat, command] = await Promise.all([read('status'), read('stat'), commandOf(pid)])
    booted ??= Number(/^btime (\d+)/m.exec(await readFile('/proc/stat', 'utf8'))?.[1] ?? 0)
    const field = (name: string): readonly string[] =>
      new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]?.split(/\s+/) ?? []
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return {
      pid,
      containerPid: Number(field('NSpid').at(-1) ?? pid),
      parent: Number(field('PPid')[0] ?? 0),
      uid: Number(field('Uid')[1] ?? 0),
      gid: Number(field('Gid')[1] ?? 0),
      state: fields[0] ?? '',
      threads: Number(field('Threads')[0] ?? 1),
      cpuTime: ((Number(fields[11]) + Number(fields[12])) * 1000) / ticks,
      resident: Number(field('VmRSS')[0] ?? 0) * 1024,
      started: new Date(booted * 1000 + (Number(fields[19]) * 1000) / ticks),
      command: command === '' ? [field('Name').join(' ')] : command.replace(/\0$/, '').split('\0'),
    }
  } catch {
    return undefined
  }
}

async function commandOf(pid: number): Promise<string> {
  const file = await open(`/proc/${pid}/cmdline`)
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(longestCommand), 0, longestCommand, 0)
    return buffer.toString('utf8', 0, bytesRead)
  } finally {
    await file.close()
  }
}
