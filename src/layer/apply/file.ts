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

/** Plans the calls that make one regular file. */
export class FilePlan {
  readonly #place: Place
  readonly #attributes: Attributes
  readonly #sink: CallSink
  readonly #metadata: MetadataPlan
  /** Content of a small file, until all of it is there; a number is a hole. */
  readonly #pieces: (Buffer | number)[] = []
  readonly #isLarge: boolean
  #endsInHole = false
  readonly #size: number

  constructor(place: Place, size: number, attributes: Attributes, sink: CallSink, metadata: MetadataPlan) {
    this.#place = place
    this.#size = size
    this.#attributes = attributes
    this.#sink = sink
    this.#metadata = metadata
    this.#isLarge = size > unitSize
    if (!this.#isLarge) return
    const opened = this.#open()
    sink.add([opened, dup3(opened, largeFileDescriptor, O.CLOEXEC), close(opened)])
  }

  data(chunk: Buffer): void {
    this.#endsInHole = false
    if (!this.#isLarge) {
      this.#pieces.push(chunk)
      return
    }
    for (let at = 0; at < chunk.length; at += pieceSize) {
      this.#sink.add([this.#write(largeFileDescriptor, chunk.subarray(at, at + pieceSize))])
    }
  }

  hole(length: number): void {
    this.#endsInHole = true
    if (this.#isLarge) this.#sink.add([skipHole(this.#place, largeFileDescriptor, length)])
    else this.#pieces.push(length)
  }

  end(): void {
    if (this.#isLarge) {
      this.#sink.add(this.#ending(largeFileDescriptor))
      return
    }
    const opened = this.#open()
    const content = this.#pieces.map((piece) =>
      typeof piece === 'number' ? skipHole(this.#place, opened, piece) : this.#write(opened, piece),
    )
    this.#sink.add([opened, ...content, ...this.#ending(opened)])
  }

  #open(): Call {
    return createFile(this.#place, this.#attributes.mode & 0o777)
  }

  #write(fd: Fd, bytes: Buffer): Call {
    const call = writeTo(this.#place, fd, bytes)
    this.#sink.expect(call, (written) => {
      // The kernel writes less than all to a file only where there is no room for more.
      if (written !== bytes.length) throw syscallError(call, errnoNumber('ENOSPC') ?? 28)
    })
    return call
  }

  #ending(fd: Fd): readonly Call[] {
    const length = this.#endsInHole ? [setLength(this.#place, fd, this.#size)] : []
    const metadata = this.#metadata.calls({ ...this.#place, fd }, 'file', this.#attributes)
    return [...length, ...metadata, close(fd)]
  }
}
