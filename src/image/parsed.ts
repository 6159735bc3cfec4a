import { SpecError, type SpecIssue } from '../errors.ts'
import { isJsonObject, parseJson } from '../internal/json.ts'
import { maxIssues, type SchemaValidator, schemaIssues } from '../internal/schema.ts'
import { type Descriptor, embeddedContent } from './descriptor.ts'
import { isSchema1Type, mediaTypeEssence } from './media-type.ts'

/**
 * A document beside the bytes it was read from. The bytes are the truth: its digest is over them,
 * and they are what is stored and sent on, with every member this library does not know.
 */
export interface Parsed<T> {
  readonly raw: Uint8Array
  /** The typed view. Optional members that were null are absent (image-spec, config.md). */
  readonly value: T
  readonly mediaType: string
}

/** A JSON object as it came, and what to call it in errors. */
export interface Document {
  readonly name: string
  readonly members: Record<string, unknown>
}

/**
 * Parses raw bytes as a JSON object without null members. A member of `lists` that is null, as Go
 * writes a list without items, becomes an empty list.
 * @throws SpecError
 */
export function parseDocument(raw: Uint8Array, name: string, lists: readonly string[] = []): Document {
  const members = parseJson(raw, name)
  if (!isJsonObject(members)) throw new SpecError(name, [{ pointer: '', message: 'must be an object' }])
  dropNulls(members, lists)
  return { name, members }
}

/** Removes the members of an object that are null, or makes them an empty list; leaves anything else alone. */
export function dropNulls(value: unknown, lists: readonly string[] = []): void {
  if (!isJsonObject(value)) return
  for (const [name, member] of Object.entries(value)) {
    if (member !== null) continue
    if (lists.includes(name)) value[name] = []
    else delete value[name]
  }
}

/** Like {@link dropNulls}, for a descriptor and its platform. */
export function dropDescriptorNulls(value: unknown): void {
  dropNulls(value)
  if (isJsonObject(value)) dropNulls(value.platform)
}

/** Throws what was found, if anything was: by the schema, and beyond it. @throws SpecError */
export function assertValid(document: Document, validate: SchemaValidator, more: readonly SpecIssue[] = []): void {
  const issues = [...more, ...schemaIssues(validate, document.members)]
  if (issues.length > 0) throw new SpecError(document.name, issues.slice(0, maxIssues))
}

/**
 * The media type of a document, which both its transport and its own `mediaType` may state.
 * @throws SpecError when they disagree, or for Docker's schema 1.
 */
export function statedMediaType({ name, members }: Document, transport: string | undefined): string | undefined {
  const own = members.mediaType
  const outer = transport === undefined ? undefined : mediaTypeEssence(transport)
  const stated = typeof own === 'string' ? own : outer
  if (members.schemaVersion === 1 || (stated !== undefined && isSchema1Type(stated))) {
    throw new SpecError(
      name,
      [{ pointer: '/schemaVersion', message: 'this is Docker image manifest schema 1, which is not supported' }],
      { hint: 'Schema 1 was retired in 2019: push the image again with a current client.' },
    )
  }
  if (typeof own === 'string' && outer !== undefined && own.toLowerCase() !== outer) {
    throw new SpecError(name, [{ pointer: '/mediaType', message: `must be the type it was delivered as, ${outer}` }])
  }
  return stated
}

/** Faults of content that descriptors carry in `data`. */
export function embeddedIssues(descriptors: Iterable<readonly [pointer: string, Descriptor]>): readonly SpecIssue[] {
  const issues: SpecIssue[] = []
  for (const [pointer, descriptor] of descriptors) {
    try {
      embeddedContent(descriptor)
    } catch (error) {
      issues.push({ pointer: `${pointer}/data`, message: error instanceof Error ? error.message : String(error) })
      if (issues.length >= maxIssues) break
    }
  }
  return issues
}
