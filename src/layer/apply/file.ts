import type { Call } from '../../linux/call.ts'
import { close, dup3, type Fd, O } from '../../linux/calls/files.ts'
import { errnoNumber, syscallError } from '../../linux/errno.ts'
import { createFile, type Place, setLength, skipHole, writeTo } from './calls.ts'
import type { Attributes, MetadataPlan } from './metadata.ts'
import type { CallSink } from './planner.ts'

/** Files up to this size are one unit: open, write, attributes, close in one batch. Bytes. */
const unitSize = 64 * 1024
/** Most content of one call; several fit into a batch. Bytes. */
const pieceSize = 128 * 1024
/**
 * Descriptor of a larger file, whose content spans batches. It is chosen here, so that the next batch
 * can be sent before the one that opens the file is answered. Below the usual limit of 1024.
 */
const largeFileDescriptor = 200

/** Plans the calls that make one regular file. Content is copied, or handed on, before `data` returns. */
export class FilePlan {
  readonly #place: Place
  readonly #attributes: Attributes
  readonly #sink: CallSink
  readonly #metadata: MetadataPlan
  readonly #size: number
  readonly #isLarge: boolean
  /** Of a small file, what opening it gives. */
  #fd: Fd = largeFileDescriptor
  /** Calls of a small file, until all of it is there. */
  #calls: Call[] = []
  #endsInHole = false

  constructor(place: Place, size: number, attributes: Attributes, sink: CallSink, metadata: MetadataPlan) {
    this.#place = place
    this.#size = size
    this.#attributes = attributes
    this.#sink = sink
    this.#metadata = metadata
    this.#isLarge = size > unitSize
    const opened = createFile(place, attributes.mode & 0o777)
    if (this.#isLarge) sink.add([opened, dup3(opened, largeFileDescriptor, O.CLOEXEC), close(opened)])
    else {
      this.#fd = opened
      sink.reserve(size)
      this.#calls.push(opened)
    }
  }

  data(chunk: Buffer): void {
    this.#endsInHole = false
    if (!this.#isLarge) {
      this.#write(chunk)
      return
    }
    for (let at = 0; at < chunk.length; at += pieceSize) {
      const piece = chunk.subarray(at, at + pieceSize)
      this.#sink.reserve(piece.length)
      this.#write(piece)
      this.#flush()
    }
  }

  hole(length: number): void {
    this.#endsInHole = true
    this.#calls.push(skipHole(this.#place, this.#fd, length))
    if (this.#isLarge) this.#flush()
  }

  end(): void {
    if (this.#endsInHole) this.#calls.push(setLength(this.#place, this.#fd, this.#size))
    const { arg, text } = this.#place
    this.#metadata.append(this.#calls, { arg, text, fd: this.#fd }, 'file', this.#attributes)
    this.#calls.push(close(this.#fd))
    this.#flush()
  }

  #flush(): void {
    this.#sink.add(this.#calls)
    this.#calls = []
  }

  #write(bytes: Buffer): void {
    const { length } = bytes
    const call = writeTo(this.#place, this.#fd, this.#sink.content(bytes), length)
    this.#sink.expect(call, checkWritten)
    this.#calls.push(call)
  }
}

function checkWritten(written: number, call: Call): void {
  // The kernel writes less than all to a file only where there is no room for more.
  if (written !== call.args[2]) throw syscallError(call, errnoNumber('ENOSPC') ?? 28)
}
