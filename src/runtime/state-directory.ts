import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { readdir, readFile, rm } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import type { Spec } from '../bundle/spec.ts'
import { ConflictError, InvalidArgumentError, NotFoundError, SpecError, type SyscallError } from '../errors.ts'
import { hasCode } from '../internal/file-error.ts'
import { isJsonObject } from '../internal/json.ts'
import { parseJsonInt64 } from '../internal/json-int64.ts'
import { flock, LOCK } from '../linux/calls/files.ts'
import { perform } from '../linux/local.ts'
import { isInUserNamespace } from '../linux/own-ids.ts'
import { joinedCgroups } from './joined-cgroups.ts'
import type { RootMount } from './root-mount.ts'
import type { ScopeRecord } from './systemd/scope.ts'

/** What oci-ts writes about a container when it begins to make it. */
export interface ContainerFacts {
  readonly ociVersion: string
  readonly id: string
  readonly bundle: string
  /** Absolute path of its root filesystem. */
  readonly rootfs: string
  /** Uid of who made it. */
  readonly owner: number
  readonly annotations?: Readonly<Record<string, string>> | undefined
  /** Directories of its cgroup. */
  readonly cgroups: readonly string[]
  /** The unit of systemd that the cgroup belongs to. */
  readonly scope?: ScopeRecord | undefined
  /** Directories of resctrl that were made for it. */
  readonly resctrl?: readonly string[] | undefined
  /** The mount of the host that is its root. */
  readonly rootMount?: RootMount | undefined
  readonly oomCounter?: string | undefined
  /** Whether it lives without the process that made it. */
  readonly outlive: boolean
  /** Whether it has no monitor, and is a child of whoever ran its maker. */
  readonly handedOver?: boolean | undefined
  /** Milliseconds since the epoch. */
  readonly created: number
}

/** What is recorded of a container; `state` of the runtime-spec is made of it. */
export interface ContainerRecord extends ContainerFacts, RecordedProcess {}

/** The container's first process. */
export interface RecordedProcess {
  /** As the host sees it; 0 while it is not known. */
  readonly pid: number
  /** See proc_pid_stat(5), field 22. */
  readonly startTime: string
  /** Whether it runs the container's program. */
  readonly started: boolean
}

/**
 * Symbolic links to `<pid> <start time>` that tell of the first process, the one before it runs the program and the other
 * from then on: to make one takes a quarter of what writing a file does, and nobody sees a part of it.
 */
const links = { created: 'created', started: 'started' } as const

/** What state.json holds. */
interface StateFile {
  readonly facts: ContainerFacts
  /** The config, for whoever runs something in the container by its id. */
  readonly config: Spec
}

/** Names of what is in a container's directory. */
export const stateFiles: readonly string[] = ['state.json', '.state.json', ...Object.values(links), 'exit']

/**
 * Where containers are recorded: `/run/oci-ts` for root, else below `$XDG_RUNTIME_DIR`; also for root of a user namespace
 * that has one, as an ordinary user is under podman.
 */
export function defaultStateRoot(): string {
  const { XDG_RUNTIME_DIR } = process.env
  if (process.geteuid?.() === 0 && (!XDG_RUNTIME_DIR || !isInUserNamespace())) return '/run/oci-ts'
  return XDG_RUNTIME_DIR ? join(XDG_RUNTIME_DIR, 'oci-ts') : join(homedir(), '.oci-ts', 'run')
}

/** A container id can't lead out of the state directory, nor be mistaken for an option. */
export function checkId(id: string): void {
  if (!/^[A-Za-z0-9_+-][A-Za-z0-9_+.-]*$/.test(id) || id.startsWith('-') || id.length > 255) {
    throw new InvalidArgumentError(`${JSON.stringify(id)} is no container id`, {
      subject: id,
      hint: 'Use at most 255 letters, digits and _ + . - and do not begin with . or -',
    })
  }
}

/** What the directory of a container holds that has run to its end. */
const filesAtEnd = ['state.json', links.started, 'exit'] as const

/** How often a directory is made again that was taken for one that nobody holds. */
const maxAttempts = 1000

function idInUse(id: string): ConflictError {
  return new ConflictError(id, `a container named ${id} exists`, { hint: 'Delete it, or choose another id.' })
}

/**
 * The directory of one container. As long as a process holds its lock (flock(2)) it is that process's:
 * the kernel lets go of the lock when the process dies, and the next one may clean up.
 */
export class StateDirectory {
  readonly path: string
  /** Descriptor that holds the lock; a monitor that outlives this process inherits it. */
  readonly lock: number
  private isOpen = true

  private constructor(path: string, lock: number) {
    this.path = path
    this.lock = lock
  }

  /** Makes the directory of a new container. @throws ConflictError when the id is taken. */
  static create(root: string, id: string): StateDirectory {
    checkId(id)
    const path = join(root, id)
    let made = false
    for (let attempt = 0; ; attempt++) {
      try {
        mkdirSync(path, { mode: 0o700 })
        made = true
      } catch (cause) {
        if (hasCode(cause, 'ENOENT') && attempt < maxAttempts) {
          mkdirSync(root, { recursive: true, mode: 0o700 })
          continue
        }
        if (!hasCode(cause, 'EEXIST')) throw cause
        // Someone who sweeps may hold the one that was just made, to remove it.
        if (!made || attempt === maxAttempts) throw idInUse(id)
      }
      const directory = made ? StateDirectory.tryLock(path) : undefined
      if (directory !== undefined) return directory
    }
  }

  /** Whether somebody has removed it: what is at its path now is another one. */
  get isRemoved(): boolean {
    return isRemoved(this.lock)
  }

  /** Takes the lock of an existing directory; undefined when another process has it, or it is gone. */
  static tryLock(path: string): StateDirectory | undefined {
    let lock: number
    try {
      lock = openSync(path, 'r')
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw cause
    }
    try {
      perform(flock(lock, LOCK.EXCLUSIVE | LOCK.NONBLOCKING))
    } catch (cause) {
      closeSync(lock)
      if ((cause as SyscallError).errnoName === 'EAGAIN') return undefined
      throw cause
    }
    const directory = new StateDirectory(path, lock)
    // It may have been removed between its being opened and locked, and another one made.
    if (!directory.isRemoved) return directory
    directory.release()
    return undefined
  }

  /** File that the monitor records the end in. */
  get exitRecord(): string {
    return join(this.path, 'exit')
  }

  /** Cgroups that it joined when it was there. */
  get joined(): readonly string[] {
    return joinedCgroups(this.path)
  }

  /**
   * Writes what is known from the beginning, before anything else is made: as long as not all of it is there, there is
   * nothing that somebody would have to be told of. @param config text of the config.json
   */
  write(facts: ContainerFacts, config: string): void {
    writeText(`${this.path}/state.json`, stateText(facts, config))
  }

  /** Replaces as a whole what {@link write} has written. */
  rewrite(facts: ContainerFacts, config: string): void {
    const temporary = `${this.path}/.state.json`
    writeText(temporary, stateText(facts, config))
    renameSync(temporary, `${this.path}/state.json`)
  }

  /** Tells of the first process. */
  tellCreated({ pid, startTime }: Omit<RecordedProcess, 'started'>): void {
    symlinkSync(`${pid} ${startTime}`, `${this.path}/${links.created}`)
  }

  /** Tells that the first process, which {@link tellCreated} told of, runs the program. */
  tellStarted(): void {
    renameSync(`${this.path}/${links.created}`, `${this.path}/${links.started}`)
  }

  /** Removes the directory and lets go of the lock. Idempotent. */
  remove(): void {
    if (this.isOpen && !this.isRemoved) this.removeFiles()
    this.release()
  }

  private removeFiles(): void {
    try {
      for (const name of filesAtEnd) unlinkSync(`${this.path}/${name}`)
      rmdirSync(this.path)
    } catch {
      // Not the files that a deleted container has: whatever there is.
      rmSync(this.path, { recursive: true, force: true })
    }
  }

  /** Lets go of the lock. Idempotent. */
  release(): void {
    if (this.isOpen) closeSync(this.lock)
    this.isOpen = false
  }
}

function stateText(facts: ContainerFacts, config: string): string {
  return `{"facts":${JSON.stringify(facts)},"config":${config}}`
}

/** As writeFileSync does, in half the time. */
function writeText(path: string, text: string): void {
  const file = openSync(path, 'w', 0o600)
  try {
    // A file system without room takes a part; that fails with what is wrong.
    if (writeSync(file, text) !== Buffer.byteLength(text)) writeFileSync(path, text)
  } finally {
    closeSync(file)
  }
}

/** Reads the record of a container. @throws NotFoundError when there is none, SpecError for another version's. */
export async function readRecord(root: string, id: string): Promise<ContainerRecord> {
  const { facts } = await readState(root, id, (raw) => JSON.parse(raw.toString()) as StateFile)
  const process = recordedProcess(join(root, id))
  // Of one that is removed the file goes first: without it, that nothing is told of the process does not mean that it is made.
  if (process.pid === 0 && !existsSync(join(root, id, 'state.json'))) throw notFound(id)
  const joined = joinedCgroups(join(root, id))
  return { ...facts, ...process, ...(joined.length === 0 ? {} : { cgroups: [...facts.cgroups, ...joined] }) }
}

/** Reads the config that the container was made with. @throws NotFoundError when there is none. */
export async function readConfig(root: string, id: string): Promise<Spec> {
  return (await readExactState(root, id)).config
}

function readExactState(root: string, id: string): Promise<StateFile> {
  return readState(root, id, (raw) => parseJsonInt64(raw, `the state of container ${id}`) as unknown as StateFile)
}

async function readState(root: string, id: string, parse: (raw: Buffer) => StateFile): Promise<StateFile> {
  checkId(id)
  const path = join(root, id, 'state.json')
  let state: StateFile
  try {
    state = parse(await readFile(path))
  } catch (cause) {
    // A part of it is as good as nothing: see StateDirectory.write.
    if (!hasCode(cause, 'ENOENT') && !(cause instanceof SyntaxError) && !(cause instanceof SpecError)) throw cause
    throw notFound(id, cause)
  }
  if (!isStateFile(state)) throw foreign(path)
  return state
}

/** Whether it is as {@link StateDirectory.write} writes it, in what is relied on. */
function isStateFile(state: unknown): boolean {
  if (!isJsonObject(state) || !isJsonObject(state.facts) || !isJsonObject(state.config)) return false
  const { id, bundle, rootfs, created, outlive, cgroups } = state.facts
  return (
    [id, bundle, rootfs].every((each) => typeof each === 'string') &&
    Number.isSafeInteger(created) &&
    typeof outlive === 'boolean' &&
    Array.isArray(cgroups) &&
    cgroups.every((each) => typeof each === 'string')
  )
}

function foreign(path: string): SpecError {
  return new SpecError(path, [{ pointer: '', message: 'this version of oci-ts has not written it' }], {
    hint: 'Delete the container with the version that has made it.',
  })
}

/** For a container that nothing is recorded of. */
export function notFound(id: string, cause?: unknown): NotFoundError {
  return new NotFoundError(id, `container ${id} does not exist`, { cause })
}

function recordedProcess(directory: string): RecordedProcess {
  // In this order: the one becomes the other.
  for (const name of [links.created, links.started]) {
    try {
      const path = join(directory, name)
      const [, pid, startTime = ''] = /^([1-9]\d*) (\d*)$/.exec(readlinkSync(path)) ?? []
      if (pid === undefined) throw foreign(path)
      return { pid: Number(pid), startTime, started: name === links.started }
    } catch (cause) {
      if (!hasCode(cause, 'ENOENT')) throw cause
    }
  }
  return { pid: 0, startTime: '', started: false }
}

/** Ids of the containers recorded below `root`. */
export async function listIds(root: string): Promise<readonly string[]> {
  const entries = await readdir(root, { withFileTypes: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  return entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name)
}

/** Whether the directory of a descriptor has been removed. */
function isRemoved(directory: number): boolean {
  return fstatSync(directory).nlink === 0
}

/**
 * Does something with the directory of a container of any process, which may be removed meanwhile, and another one made.
 * @param act gets what throws when that has happened
 * @throws NotFoundError when there is none, or no longer.
 */
export async function inStateDirectory<T>(
  root: string,
  id: string,
  act: (check: () => void) => Promise<T>,
): Promise<T> {
  checkId(id)
  let directory: number
  try {
    directory = openSync(join(root, id), 'r')
  } catch (cause) {
    if (hasCode(cause, 'ENOENT')) throw notFound(id, cause)
    throw cause
  }
  try {
    return await act(() => {
      if (isRemoved(directory)) throw notFound(id)
    })
  } finally {
    closeSync(directory)
  }
}

/** Removes the directory of a container that nobody holds any more. */
export async function removeStateDirectory(root: string, id: string): Promise<void> {
  await rm(join(root, id, 'state.json'), { force: true })
  await rm(join(root, id), { recursive: true, force: true })
}
