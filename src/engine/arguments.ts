import { Readable, Writable } from 'node:stream'
import type { Mount } from '../bundle/spec.ts'
import { InvalidArgumentError } from '../errors.ts'
import { describe } from '../internal/choice.ts'
import { isJsonObject } from '../internal/json.ts'
import type { Container } from './container.ts'
import type { Image } from './image.ts'

/**
 * What callers without types can get wrong, told by what they have given: each returns the argument. What text means is for the
 * verbs to say. @throws InvalidArgumentError
 */
export function imageArgument<T extends Image | string>(image: T): T {
  if (typeof image === 'string' || isImage(image)) return image
  throw fault('image', 'an image, or its name', image)
}

function isImage(value: unknown): boolean {
  if (!isJsonObject(value)) return false
  const { reference, digest, manifest, config } = value
  return typeof reference === 'string' && typeof digest === 'string' && isJsonObject(manifest) && isJsonObject(config)
}

export function textArgument(subject: string, text: string): string {
  if (typeof text === 'string') return text
  throw fault(subject, 'text', text)
}

export function optionsArgument<T extends object | undefined>(options: T): T {
  if (options === undefined || isJsonObject(options)) return options
  throw fault('options', 'an object', options)
}

export function sourceArgument<T extends Readable | string>(source: T): T {
  if (isPath(source) || source instanceof Readable) return source
  throw fault('source', 'a path or a stream to read', source)
}

export function targetArgument<T extends Writable | string>(target: T): T {
  // Streams of other kinds, such as duplex ones, are writable without being of that class.
  if (isPath(target) || target instanceof Writable || isWritable(target)) return target
  throw fault('target', 'a path or a stream to write to', target)
}

/** An empty one would be the directory that this process happens to be in. */
function isPath(value: unknown): boolean {
  return typeof value === 'string' && value !== ''
}

function isWritable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && 'write' in value && typeof value.write === 'function'
}

export function archiveArgument<T extends Readable | Uint8Array>(archive: T): T {
  if (archive instanceof Readable || archive instanceof Uint8Array) return archive
  throw fault('archive', 'bytes or a stream to read', archive)
}

export function containerArgument(container: Container): Container {
  // Of whichever copy of this library.
  if (typeof container === 'object' && container !== null && typeof container.runner === 'object') return container
  throw fault('container', 'a container, as `run` and `attach` give it', container)
}

export function argvArgument(argv: readonly string[]): readonly string[] {
  if (Array.isArray(argv)) return argv
  throw fault('argv', 'an array of the program and its arguments', argv)
}

export function limitsArgument<T extends object>(limits: T): T {
  if (isJsonObject(limits)) return limits
  throw fault('limits', 'an object', limits)
}

export function mountArgument(mount: Mount): Mount {
  if (!isJsonObject(mount)) throw fault('mount', 'an object', mount)
  textArgument('destination', mount.destination)
  return mount
}

function fault(subject: string, wanted: string, given: unknown): InvalidArgumentError {
  return new InvalidArgumentError(`${subject} must be ${wanted}, not ${describe(given)}`, { subject })
}
