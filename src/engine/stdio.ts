import { closeSync, fchownSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { out } from '../linux/call.ts'
import { O, pipe2 } from '../linux/calls/files.ts'
import { performFor } from '../linux/local.ts'
import type { Terminal } from '../runtime/index.ts'
import type { OutputName } from './line-splitter.ts'

/** The pipes between this process and a container. */
export interface Stdio {
  /** Descriptors that become 0, 1 and 2 of the container. */
  readonly descriptors: readonly [stdin: number | undefined, stdout: number, stderr: number]
  readonly stdin: Writable | undefined
  readonly outputs: ReadonlyMap<OutputName, Readable>
  /** Closes the container's ends here, so that the end of the container is the end of the pipes. Idempotent. */
  handOver(): void
  /** Closes both ends. Idempotent. */
  close(): void
}

/**
 * Makes pipes for the outputs, and one for the input when it is wanted.
 * @param owner Host uid that the container runs as: it may then open /dev/stdout by name.
 */
export function openStdio(wantsInput: boolean, owner: number): Stdio {
  const { stdout, stderr, stdin } = openPipes(wantsInput, owner)
  const outputs = new Map<OutputName, Readable>([
    ['stdout', new Socket({ fd: stdout.read, readable: true, writable: false })],
    ['stderr', new Socket({ fd: stderr.read, readable: true, writable: false })],
  ])
  const input = stdin === undefined ? undefined : new Socket({ fd: stdin.write, readable: false, writable: true })
  // Who no longer reads its input is no error of ours.
  input?.on('error', () => {})
  let handed = false
  const handOver = (): void => {
    if (!handed) for (const pipe of [stdout.write, stderr.write, stdin?.read]) closeIfOpen(pipe)
    handed = true
  }
  return {
    descriptors: [stdin?.read, stdout.write, stderr.write],
    stdin: input,
    outputs,
    handOver,
    close() {
      handOver()
      input?.destroy()
      for (const output of outputs.values()) output.destroy()
    },
  }
}

/** The terminal of a container in the place of pipes; all that it shows is standard output. */
export function terminalStdio(terminal: Terminal | undefined): Pick<Stdio, 'stdin' | 'outputs' | 'handOver' | 'close'> {
  return {
    stdin: terminal,
    outputs: new Map<OutputName, Readable>(terminal === undefined ? [] : [['stdout', terminal]]),
    handOver() {},
    close() {
      terminal?.destroy()
    },
  }
}

interface Pipe {
  readonly read: number
  readonly write: number
}

interface Pipes {
  readonly stdout: Pipe
  readonly stderr: Pipe
  readonly stdin: Pipe | undefined
}

/** All of them, or none. */
function openPipes(wantsInput: boolean, owner: number): Pipes {
  const opened: Pipe[] = []
  const open = (theirs: keyof Pipe): Pipe => {
    const pipe = makePipe()
    opened.push(pipe)
    // Only root can give files away.
    if (process.geteuid?.() === 0) fchownSync(pipe[theirs], owner, keepGroup)
    return pipe
  }
  try {
    return { stdout: open('write'), stderr: open('write'), stdin: wantsInput ? open('read') : undefined }
  } catch (error) {
    for (const { read, write } of opened) for (const fd of [read, write]) closeSync(fd)
    throw error
  }
}

/** The gid that leaves the group as it is (chown(2): -1). */
const keepGroup = 2 ** 32 - 1

function makePipe(): Pipe {
  const ends = out(8)
  const bytes = performFor(pipe2(ends, O.CLOEXEC, { step: 'make a pipe' })).bytes(ends)
  return { read: bytes.readInt32LE(0), write: bytes.readInt32LE(4) }
}

function closeIfOpen(fd: number | undefined): void {
  if (fd !== undefined) closeSync(fd)
}
