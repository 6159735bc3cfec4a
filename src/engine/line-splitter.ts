import { StringDecoder } from 'node:string_decoder'

/** Which of its two outputs a container wrote to. */
export type OutputName = 'stdout' | 'stderr'

/** A line that a container wrote. */
export interface LogLine {
  readonly stream: OutputName
  /** Without its line end. Bytes that are not UTF-8 are replaced; a line of more than 64 KiB comes in parts. */
  readonly text: string
  /** When its end arrived; what a detached container wrote before it was read has the time of its latest write. */
  readonly time: Date
}

/** Bytes as they arrived. */
export interface Chunk {
  readonly stream: OutputName
  readonly bytes: Buffer
  readonly time: Date
}

/** Characters that a line may have before it is given in parts; a part may be longer by one chunk. */
const maxLine = 64 * 1024

/** Makes lines of the chunks of one output. */
export class LineSplitter {
  private readonly stream: OutputName
  private readonly decoder = new StringDecoder('utf8')
  private partial = ''
  private time = new Date()

  constructor(stream: OutputName) {
    this.stream = stream
  }

  /** The lines that end in `chunk`. */
  add(chunk: Chunk): readonly LogLine[] {
    this.time = chunk.time
    const text = this.decoder.write(chunk.bytes)
    const lines: LogLine[] = []
    let start = 0
    for (let end = text.indexOf('\n'); end !== -1; end = text.indexOf('\n', start)) {
      const line = this.partial + text.slice(start, end)
      lines.push(this.line(line.endsWith('\r') ? line.slice(0, -1) : line))
      this.partial = ''
      start = end + 1
    }
    this.partial += text.slice(start)
    if (this.partial.length > maxLine) lines.push(this.line(this.partial))
    if (this.partial.length > maxLine) this.partial = ''
    return lines
  }

  /** What came after the last line end. */
  rest(): readonly LogLine[] {
    const text = this.partial + this.decoder.end()
    this.partial = ''
    return text === '' ? [] : [this.line(text)]
  }

  private line(text: string): LogLine {
    return { stream: this.stream, text, time: this.time }
  }
}

/** A splitter for each output. */
export type Splitters = Readonly<Record<OutputName, LineSplitter>>

/** Splitters that have seen nothing. */
export function newSplitters(): Splitters {
  return { stdout: new LineSplitter('stdout'), stderr: new LineSplitter('stderr') }
}

/** What came after the last line ends of both outputs. */
export function restOf({ stdout, stderr }: Splitters): readonly LogLine[] {
  return [...stdout.rest(), ...stderr.rest()]
}
