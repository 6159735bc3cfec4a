import { closeSync, fchownSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Readable, Writable } from 'node:stream'
import { out } from '../linux/call.ts'
import { O, pipe2 } from '../linux/calls/files.ts'
import { performFor } from '../linux/local.ts'
import type { OutputName } from './output.ts'

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
  const pipes = [pipe(), pipe(), ...(wantsInput ? [pipe()] : [])]
  const [stdout, stderr, stdin] = pipes as [Pipe, Pipe, Pipe | undefined]
  const theirs = [stdout.write, stderr.write, ...(stdin === undefined ? [] : [stdin.read])]
  if (process.geteuid?.() === 0) for (const fd of theirs) fchownSync(fd, owner, -1 >>> 0)
  const outputs = new Map<OutputName, Readable>([
    ['stdout', new Socket({ fd: stdout.read, readable: true, writable: false })],
    ['stderr', new Socket({ fd: stderr.read, readable: true, writable: false })],
  ])
  const input = stdin === undefined ? undefined : new Socket({ fd: stdin.write, readable: false, writable: true })
  // Who no longer reads its input is no error of ours.
  input?.on('error', () => {})
  let handed = false
  const handOver = (): void => {
    if (!handed) for (const fd of theirs) closeSync(fd)
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

interface Pipe {
  readonly read: number
  readonly write: number
}

function pipe(): Pipe {
  const ends = out(8)
  const bytes = performFor(pipe2(ends, O.CLOEXEC, { step: 'make a pipe' })).bytes(ends)
  return { read: bytes.readInt32LE(0), write: bytes.readInt32LE(4) }
}
