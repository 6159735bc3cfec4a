import { appendFileSync } from 'node:fs'
import { InvalidArgumentError } from '../index.ts'
import { writeTo } from './output.ts'

const levels = ['panic', 'fatal', 'error', 'warning', 'info', 'debug', 'trace'] as const

/** How much a message matters. */
export type LogLevel = (typeof levels)[number]

/** Where a {@link Log} goes. */
export interface LogOptions {
  /** File to append to. Default standard error. */
  readonly path?: string | undefined
  /** `text` or `json`. Default `text`. */
  readonly format?: string | undefined
  /** The least level that is logged. Default `warning`. */
  readonly level?: string | undefined
}

/** The log as engines read it: each message a line, in JSON with the members `level`, `msg` and `time`. */
export class Log {
  private readonly path: string | undefined
  private readonly format: string
  private readonly least: number

  /** @throws InvalidArgumentError for a format or a level that there is not. */
  constructor(options: LogOptions = {}) {
    const { path, format = 'text', level = 'warning' } = options
    const name = level === 'warn' ? 'warning' : level.toLowerCase()
    this.least = (levels as readonly string[]).indexOf(name)
    if (this.least < 0) throw new InvalidArgumentError(`there is no log level ${JSON.stringify(level)}`)
    if (format !== 'text' && format !== 'json') {
      throw new InvalidArgumentError(`the log format is text or json, not ${JSON.stringify(format)}`)
    }
    this.path = path === '' ? undefined : path
    this.format = format
  }

  /** Whether messages are seen by whoever reads standard error. */
  get isStandardError(): boolean {
    return this.path === undefined
  }

  write(level: LogLevel, msg: string): void {
    if (levels.indexOf(level) > this.least) return
    const time = new Date().toISOString()
    if (this.path !== undefined) {
      const text = `time=${JSON.stringify(time)} level=${level} msg=${JSON.stringify(msg)}`
      appendFileSync(this.path, `${this.format === 'json' ? JSON.stringify({ level, msg, time }) : text}\n`)
    } else if (this.format === 'json') {
      writeTo(2, `${JSON.stringify({ level, msg, time })}\n`)
    } else {
      // What failed may have been named already.
      const name = msg.startsWith('oci-ts ') ? '' : 'oci-ts: '
      writeTo(2, `${name}${level === 'error' ? '' : `${level}: `}${msg}\n`)
    }
  }
}
