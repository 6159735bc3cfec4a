import { closeSync, constants, fstatSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join, posix } from 'node:path'
import { LimitError, NotFoundError, SpecError, type SpecIssue } from '../../errors.ts'
import { fileError, hasCode } from '../../internal/file-error.ts'
import { isJsonObject, parseJson } from '../../internal/json.ts'
import { terminalModesBytes } from '../../linux/calls/terminals.ts'

/** A mount whose content is not part of the images. */
export interface ExternalMount {
  /** Where it is in the container, by no symlink. */
  readonly point: string
  /** What config.json calls that; undefined for masks, devices and cgroups. */
  readonly destination?: string | undefined
}

/** A terminal as it was. */
export interface TerminalNote {
  /** How CRIU names it. */
  readonly name: string
  /** The kernel's `struct termios`, in Base64. */
  readonly modes: string
  /** Characters. */
  readonly columns: number
  readonly rows: number
}

/** What is kept beside the images of CRIU. */
export interface CheckpointNote {
  /** How CRIU names the standard streams that lead out of the container; null for those that do not. */
  readonly streams: readonly (string | null)[]
  readonly mounts: readonly ExternalMount[]
  /** The terminal of the container, whose other side is outside of it. */
  readonly terminal?: TerminalNote | undefined
}

/** File of the images in which is what CRIU does not keep. */
const noteName = 'oci-ts.json'

/** More than a note of as many mounts as it may have takes. Bytes. */
const longest = 16 << 20
/** As many as the kernel lets a mount namespace have by default (sysctl fs.mount-max). */
const mostMounts = 100_000
/** PATH_MAX of the kernel. */
const longestPath = 4096
/** A `struct winsize` has 16 bits for each. */
const mostCharacters = 0xffff

/** Writes the note of a checkpoint. */
export function writeNote(imagePath: string, note: CheckpointNote): void {
  writeFileSync(join(imagePath, noteName), JSON.stringify(note), { mode: 0o600 })
}

/**
 * Reads the note of a checkpoint, which may come from anybody: what it says becomes arguments of CRIU.
 * @throws NotFoundError for a directory that has none. @throws SpecError, LimitError for what no checkpoint has written.
 */
export function readNote(imagePath: string): CheckpointNote {
  const path = join(imagePath, noteName)
  const value = parseJson(readBounded(imagePath, path), path)
  const issues = [...issuesOf(value)]
  if (issues.length > 0) throw malformed(path, issues)
  return value as CheckpointNote
}

function readBounded(imagePath: string, path: string): Buffer {
  let fd: number
  try {
    // A fifo would wait for somebody who writes.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  } catch (cause) {
    if (!hasCode(cause, 'ENOENT') && !hasCode(cause, 'ENOTDIR'))
      throw fileError(cause, 'reading the note of a checkpoint')
    throw new NotFoundError(imagePath, `${imagePath} is no checkpoint of oci-ts: it has no ${noteName}`, { cause })
  }
  try {
    const stats = fstatSync(fd)
    if (!stats.isFile()) throw malformed(path, [{ pointer: '', message: 'it is no file' }])
    if (stats.size > longest) throw new LimitError(path, longest, 'bytes')
    return readFileSync(fd)
  } finally {
    closeSync(fd)
  }
}

function malformed(path: string, issues: readonly SpecIssue[]): SpecError {
  return new SpecError(path, issues, { hint: 'Make the checkpoint again, or restore what was not changed.' })
}

function* issuesOf(note: unknown): Iterable<SpecIssue> {
  if (!isJsonObject(note)) return yield { pointer: '', message: 'must be an object' }
  const { streams, mounts, terminal } = note
  if (!Array.isArray(streams) || streams.length > 3 || !streams.every((each) => each === null || isStream(each))) {
    yield { pointer: '/streams', message: 'must be what CRIU calls at most three streams' }
  }
  if (!Array.isArray(mounts) || mounts.length > mostMounts) {
    yield { pointer: '/mounts', message: `must be at most ${mostMounts} mounts` }
  } else {
    const wrong = mounts.findIndex((each) => !isMount(each))
    if (wrong !== -1) yield { pointer: `/mounts/${wrong}`, message: 'must have the path of a mount' }
  }
  if (terminal !== undefined && !isTerminal(terminal)) {
    yield { pointer: '/terminal', message: 'must be the name, the modes and the size of a terminal' }
  }
}

function isStream(value: unknown): boolean {
  return typeof value === 'string' && /^((pipe|socket):\[\d{1,20}\]|file\[[0-9a-f]{1,16}:[0-9a-f]{1,16}\])$/.test(value)
}

function isMount(value: unknown): boolean {
  if (!isJsonObject(value)) return false
  const { point, destination } = value
  // By another way to the same place something of the host would be found that nobody has named.
  return isPath(point) && point === posix.normalize(point) && (destination === undefined || isPath(destination))
}

function isPath(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith('/') && value.length <= longestPath && !value.includes('\0')
}

function isTerminal(value: unknown): boolean {
  if (!isJsonObject(value)) return false
  const { name, modes, columns, rows } = value
  return (
    typeof name === 'string' &&
    /^tty\[[0-9a-f]{1,16}:[0-9a-f]{1,16}\]$/.test(name) &&
    typeof modes === 'string' &&
    modes.length <= 2 * terminalModesBytes &&
    Buffer.from(modes, 'base64').length === terminalModesBytes &&
    [columns, rows].every((n) => Number.isInteger(n) && (n as number) >= 0 && (n as number) <= mostCharacters)
  )
}
