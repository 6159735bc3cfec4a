/**
 * The error family. Every error this library throws on purpose is an {@link OciError}: it carries a
 * stable `code`, the `subject` it is about, the `cause`, and where there is one a `hint` on what to do.
 */

import { describeOutcome, type ExecOutcome, type ExitStatus } from './internal/outcomes.ts'
import { firstOf, quote } from './internal/text.ts'

export type { ExecOutcome, ExitStatus } from './internal/outcomes.ts'

const brand = Symbol.for('oci-ts.error')

/** Options that every error of the family takes. */
export interface OciErrorOptions {
  /** What the error is about: a reference, a digest, a path, a container id. */
  readonly subject?: string | undefined
  /** What the caller can do about it, as one sentence. Appended to the message. */
  readonly hint?: string | undefined
  /** The error below this one. */
  readonly cause?: unknown
}

/** Base of every error that oci-ts throws. */
export class OciError extends Error {
  /** Stable identifier of the kind of failure, `ERR_OCI_…`. Part of the public API. */
  readonly code: string
  /** What the error is about, where that is one thing. */
  readonly subject: string | undefined
  /** What the caller can do about it. */
  readonly hint: string | undefined

  constructor(code: string, message: string, options: OciErrorOptions = {}) {
    const { hint, cause } = options
    super(hint === undefined ? message : `${message}\n${hint}`, cause === undefined ? {} : { cause })
    this.code = code
    this.subject = options.subject
    this.hint = options.hint
    this.name = new.target.name
    Object.defineProperty(this, brand, { value: ancestry(new.target) })
  }

  /** Answers `instanceof` by a brand: true for errors of another copy of this class, as in the other build, too. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    if (typeof value !== 'object' || value === null) return false
    const names: unknown = Reflect.get(value, brand)
    return Array.isArray(names) && names.includes(this.name)
  }
}

function ancestry(kind: { readonly name: string }): readonly string[] {
  const names: string[] = []
  for (let k = kind; k.name !== 'Error' && k.name !== ''; k = Object.getPrototypeOf(k)) names.push(k.name)
  return names
}

/** An argument or option has a value that can't be used. Thrown before anything is done. */
export class InvalidArgumentError extends OciError {
  constructor(message: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_INVALID_ARGUMENT', message, options)
  }
}

/** A string is no image reference by the grammar of distribution/reference. */
export class InvalidReferenceError extends OciError {
  /** Zero-based offset in the input of the first character that can't be part of a reference. */
  readonly position: number

  constructor(input: string, position: number, reason: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_INVALID_REFERENCE', `invalid reference ${quote(input)}: ${reason} (at position ${position})`, {
      subject: input,
      ...options,
    })
    this.position = position
  }
}

/** A string is no digest by the grammar of image-spec, or its encoded part does not fit its algorithm. */
export class InvalidDigestError extends OciError {
  constructor(input: string, reason: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_INVALID_DIGEST', `invalid digest ${quote(input)}: ${reason}`, { subject: input, ...options })
  }
}

/** Content does not have the digest it was announced with. */
export class DigestMismatchError extends OciError {
  readonly expected: string
  readonly actual: string

  constructor(expected: string, actual: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_DIGEST_MISMATCH', `content is not what its digest says: expected ${expected}, got ${actual}`, {
      subject: expected,
      ...options,
    })
    this.expected = expected
    this.actual = actual
  }
}

/** Content is shorter or longer than it was announced. Sizes in bytes. */
export class SizeMismatchError extends OciError {
  readonly expected: number
  /** Bytes seen; when content is longer than announced, reading stopped here. */
  readonly actual: number

  constructor(subject: string, expected: number, actual: number, options: OciErrorOptions = {}) {
    const how = actual < expected ? 'ended early' : 'is longer than announced'
    super('ERR_OCI_SIZE_MISMATCH', `${subject} ${how}: expected ${expected} bytes, got ${actual}`, {
      subject,
      ...options,
    })
    this.expected = expected
    this.actual = actual
  }
}

/** One fault found in a document. */
export interface SpecIssue {
  /** JSON Pointer (RFC 6901) to the value at fault; empty for the document itself. */
  readonly pointer: string
  readonly message: string
}

/** A document (manifest, index, config, config.json, …) does not follow its specification. */
export class SpecError extends OciError {
  /** Every fault that was found; the message tells the first 20. */
  readonly issues: readonly SpecIssue[]

  constructor(document: string, issues: readonly SpecIssue[], options: OciErrorOptions = {}) {
    const list = firstOf(issues.map((issue) => `${issue.pointer || '/'}: ${issue.message}`))
    super('ERR_OCI_SPEC', `${document} is not valid: ${list}`, { subject: document, ...options })
    this.issues = issues
  }
}

/** Something a stranger controls is larger than the bound that is set for it. */
export class LimitError extends OciError {
  readonly limit: number

  constructor(subject: string, limit: number, unit: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_LIMIT', `${subject} exceeds the limit of ${limit} ${unit}`, { subject, ...options })
    this.limit = limit
  }
}

/** What was asked for does not exist. */
export class NotFoundError extends OciError {
  constructor(subject: string, message: string = `${subject} not found`, options: OciErrorOptions = {}) {
    super('ERR_OCI_NOT_FOUND', message, { subject, ...options })
  }
}

/** The request does not fit the present state: a name in use, a container in the wrong status. */
export class ConflictError extends OciError {
  constructor(subject: string, message: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_CONFLICT', message, { subject, ...options })
  }
}

/** A policy has refused content before any of it was stored; `cause` is what the policy had to say. */
export class AdmissionError extends OciError {
  /** What was refused. */
  readonly digest: string

  constructor(subject: string, digest: string, options: OciErrorOptions = {}) {
    const { cause } = options
    const reason = cause === undefined ? '' : `: ${cause instanceof Error ? cause.message : String(cause)}`
    super('ERR_OCI_ADMISSION', `${subject} (${digest}) is not admitted${reason}`, { subject, ...options })
    this.digest = digest
  }
}

/** An image has no variant for the platform that was asked for. */
export class PlatformError extends OciError {
  readonly wanted: string
  readonly available: readonly string[]

  constructor(subject: string, wanted: string, available: readonly string[], options: OciErrorOptions = {}) {
    const offer = available.length === 0 ? 'none' : available.join(', ')
    super('ERR_OCI_PLATFORM', `${subject} has no image for ${wanted}; available: ${offer}`, { subject, ...options })
    this.wanted = wanted
    this.available = available
  }
}

/** One error of a registry's error response (distribution-spec, "Error Codes"). */
export interface RegistryErrorDetail {
  readonly code: string
  readonly message: string
}

/** What is known of the exchange with a registry that failed. */
export interface RegistryErrorOptions extends OciErrorOptions {
  readonly method: string
  /** Credentials and query values are removed from it. */
  readonly url: string
  /** Status code of the response. */
  readonly status: number
  readonly errors?: readonly RegistryErrorDetail[]
  /** Milliseconds that it asks to wait. */
  readonly retryAfter?: number | undefined
}

/** A registry answered with a status that ends the operation. */
export class RegistryError extends OciError {
  readonly method: string
  readonly url: string
  readonly status: number
  readonly errors: readonly RegistryErrorDetail[]
  /** Milliseconds that the registry asked to wait before the next try; undefined when it did not. */
  readonly retryAfter: number | undefined

  constructor(options: RegistryErrorOptions) {
    const details = (options.errors ?? []).map((e) => ` ${e.code}: ${e.message}`).join(';')
    super('ERR_OCI_REGISTRY', `${options.method} ${options.url} was answered with ${options.status}${details}`, {
      ...options,
      subject: options.subject ?? options.url,
    })
    this.method = options.method
    this.url = options.url
    this.status = options.status
    this.errors = options.errors ?? []
    this.retryAfter = options.retryAfter
  }
}

/** A registry's answer breaks its protocol, or asks for something that is not safe to do. `subject` is its URL. */
export class ProtocolError extends OciError {
  constructor(url: string, message: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_PROTOCOL', `${url}: ${message}`, { subject: url, ...options })
  }
}

/** A registry could not be reached, or the connection broke and retrying did not help. */
export class NetworkError extends OciError {
  constructor(url: string, message: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_NETWORK', `${url}: ${message}`, { subject: url, ...options })
  }
}

/** A credential can't be had from where it is kept: a credential helper is missing, fails, or gives no answer. */
export class CredentialError extends OciError {
  constructor(source: string, reason: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_CREDENTIAL', `no credential from ${source}: ${reason}`, { subject: source, ...options })
  }
}

/** A layer can't be applied: an entry points outside of the target, is malformed, or breaks a limit. */
export class LayerError extends OciError {
  /** Name of the archive entry at fault. */
  readonly entry: string

  constructor(entry: string, message: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_LAYER', `layer entry ${quote(entry)}: ${message}`, { subject: entry, ...options })
    this.entry = entry
  }
}

/** An archive of images can't be read: it is damaged, cut short, or no such archive. */
export class ArchiveError extends OciError {
  /** Name of the entry at fault; undefined when it is the archive as a whole. */
  readonly entry: string | undefined

  constructor(message: string, entry?: string, options: OciErrorOptions = {}) {
    super(
      'ERR_OCI_ARCHIVE',
      entry === undefined ? `archive: ${message}` : `archive entry ${quote(entry)}: ${message}`,
      {
        subject: entry,
        ...options,
      },
    )
    this.entry = entry
  }
}

/** What a failed system call tells. */
export interface SyscallErrorOptions extends OciErrorOptions {
  readonly syscall: string
  /** Positive errno number of the kernel. */
  readonly errno: number
  /** Its name, for example `ENOENT`. */
  readonly errnoName: string
  /** Path that the call was about. */
  readonly path?: string | undefined
  /** What the call was for: "mount /proc". */
  readonly step?: string | undefined
  /** JSON Pointer into config.json to what asked for it. */
  readonly pointer?: string | undefined
}

/** The kernel refused a system call. */
export class SyscallError extends OciError {
  readonly syscall: string
  readonly errno: number
  readonly errnoName: string
  readonly path: string | undefined
  readonly step: string | undefined
  readonly pointer: string | undefined

  constructor(message: string, options: SyscallErrorOptions) {
    super('ERR_OCI_SYSCALL', message, { ...options, subject: options.subject ?? options.path })
    this.syscall = options.syscall
    this.errno = options.errno
    this.errnoName = options.errnoName
    this.path = options.path
    this.step = options.step
    this.pointer = options.pointer
  }
}

/** A remote process (design: linux/remote) ended while it had work to do. */
export class RemoteExitError extends OciError {
  constructor(message: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_REMOTE_EXIT', message, options)
  }
}

/** This machine, kernel or user can't do what was asked. `reason` says why. */
export class UnsupportedError extends OciError {
  readonly reason: string

  constructor(feature: string, reason: string, options: OciErrorOptions = {}) {
    super('ERR_OCI_UNSUPPORTED', `${feature} is not available: ${reason}`, { subject: feature, ...options })
    this.reason = reason
  }
}

/** Where in the life of a container a step failed. */
export interface RuntimeErrorOptions extends OciErrorOptions {
  /** The step, as the plan names it: "mount /proc", "set hostname". */
  readonly step: string
  /** JSON Pointer into config.json to what asked for the step. */
  readonly pointer?: string | undefined
}

/** A step of create, start, exec or delete failed; everything done before it has been undone. */
export class RuntimeError extends OciError {
  readonly step: string
  readonly pointer: string | undefined

  constructor(message: string, options: RuntimeErrorOptions) {
    super('ERR_OCI_RUNTIME', message, options)
    this.step = options.step
    this.pointer = options.pointer
  }
}

/** A container ended, or did not become ready, while it was being started. */
export class StartupError extends OciError {
  /** How it ended, if it did. */
  readonly exit: ExitStatus | undefined
  /** The last lines it wrote, at most 50. */
  readonly logs: readonly string[]

  constructor(
    subject: string,
    message: string,
    exit: ExitStatus | undefined,
    logs: readonly string[],
    options: OciErrorOptions = {},
  ) {
    super('ERR_OCI_STARTUP', logs.length === 0 ? message : `${message}\n\n${logs.join('\n')}`, { subject, ...options })
    this.exit = exit
    this.logs = logs
  }
}

/**
 * A program in a container failed: its exit code was not 0 where that was asked for, or it was killed because its
 * time was over or it wrote too much; `cause` then says which. It has the shape of a result.
 */
export class ExecError extends OciError implements ExecOutcome {
  /** What it wrote, as UTF-8. */
  readonly stdout: string
  readonly stderr: string
  /** Exit code 0 to 255; 128 + n when signal n ended it. */
  readonly exitCode: number
  /** Name of the signal that ended it. */
  readonly signal: NodeJS.Signals | undefined

  constructor(subject: string, outcome: ExecOutcome, options: OciErrorOptions = {}) {
    super('ERR_OCI_EXEC', describeOutcome(subject, outcome, options.cause), { subject, ...options })
    this.stdout = outcome.stdout
    this.stderr = outcome.stderr
    this.exitCode = outcome.exitCode
    this.signal = outcome.signal
  }
}

/** The time given for an operation is over. */
export class TimeoutError extends OciError {
  /** Milliseconds that were given. */
  readonly timeout: number

  constructor(subject: string, timeout: number, options: OciErrorOptions = {}) {
    super('ERR_OCI_TIMEOUT', `${subject} did not finish within ${timeout} ms`, { subject, ...options })
    this.timeout = timeout
  }
}
