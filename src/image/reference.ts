import { InvalidReferenceError } from '../errors.ts'
import { describe } from '../internal/choice.ts'
import { type Digest, digestFault } from './digest.ts'

/** A parsed image reference: where an image lives and what it is called there. */
export interface Reference {
  /** Registry host, with a port where one was given: `docker.io`, `127.0.0.1:5000`, `[::1]:5000`. */
  readonly domain: string
  /** Path of the repository at the registry: `library/alpine`. */
  readonly repository: string
  readonly tag?: string
  readonly digest?: Digest
}

const defaultDomain = 'docker.io'
const legacyDefaultDomain = 'index.docker.io'
const officialPrefix = 'library/'

const maxRepositoryLength = 255
const maxTagLength = 128
/** Longer than any domain, repository, tag and digest together. */
const maxLength = 1024

/**
 * Parses a reference by the grammar of distribution/reference, with Docker's defaults: no domain
 * means `docker.io`, where a repository of one component is in `library/`. The first component is a
 * domain only when it has a dot, a colon or an upper-case letter, or is `localhost`. No tag is added;
 * see {@link withDefaultTag}.
 * @throws InvalidReferenceError with the position of the first character that does not fit.
 */
export function parseReference(text: string): Reference {
  if (typeof text !== 'string') throw new InvalidReferenceError(describe(text), 0, 'it is no text')
  if (text === '') throw new InvalidReferenceError(text, 0, 'it is empty')
  if (text.length > maxLength) {
    throw new InvalidReferenceError(text, maxLength, `it is longer than ${maxLength} characters`)
  }
  if (isImageId(text)) {
    throw new InvalidReferenceError(text, 0, '64 hex digits name an image by its id, not by a repository')
  }
  const slash = text.indexOf('/')
  const named = slash >= 0 && looksLikeDomain(text.slice(0, slash))
  const domain = named ? parseDomain(text, slash) : defaultDomain
  const start = named ? slash + 1 : 0
  const nameEnd = parseName(text, start)
  const prefix = domain === defaultDomain && !text.slice(start, nameEnd).includes('/') ? officialPrefix : ''
  if (prefix.length + nameEnd - start > maxRepositoryLength) {
    const position = start + maxRepositoryLength - prefix.length
    throw new InvalidReferenceError(text, position, `the repository is longer than ${maxRepositoryLength} characters`)
  }
  const tagEnd = text[nameEnd] === ':' ? parseTag(text, nameEnd + 1) : nameEnd
  return {
    domain,
    repository: prefix + text.slice(start, nameEnd),
    ...(tagEnd > nameEnd ? { tag: text.slice(nameEnd + 1, tagEnd) } : {}),
    ...(tagEnd < text.length ? { digest: parseDigestPart(text, tagEnd) } : {}),
  }
}

/** The reference with the tag `latest` when it has neither tag nor digest. */
export function withDefaultTag(reference: Reference): Reference {
  if (reference.tag !== undefined || reference.digest !== undefined) return reference
  return { ...reference, tag: 'latest' }
}

/** The canonical form, with domain and full repository: `docker.io/library/alpine:3.20`. */
export function formatReference(reference: Reference): string {
  return `${reference.domain}/${reference.repository}${suffix(reference)}`
}

/**
 * The short form that Docker shows: without `docker.io` and `library/`, `alpine:3.20`. Parsing it
 * gives the same reference; where the short form would mean something else, this is the canonical one.
 */
export function familiarReference(reference: Reference): string {
  if (reference.domain !== defaultDomain) return formatReference(reference)
  const { repository } = reference
  const official = repository.startsWith(officialPrefix) && !repository.includes('/', officialPrefix.length)
  const name = official ? repository.slice(officialPrefix.length) : repository
  const short = name + suffix(reference)
  const ambiguous =
    isImageId(short) || (name.includes('/') ? looksLikeDomain(name.slice(0, name.indexOf('/'))) : !official)
  return ambiguous ? formatReference(reference) : short
}

function suffix({ tag, digest }: Reference): string {
  return `${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`
}

function isImageId(text: string): boolean {
  return /^[a-f0-9]{64}$/.test(text)
}

function looksLikeDomain(component: string): boolean {
  return component === 'localhost' || /[.:]/.test(component) || component !== component.toLowerCase()
}

/** Checks `text` up to `end` as host and optional port. */
function parseDomain(text: string, end: number): string {
  const hostEnd = text.startsWith('[') ? parseIpv6(text, end) : parseHostName(text, end)
  if (hostEnd < end) {
    const port = match(/[0-9]+/y, text, hostEnd + 1)
    if (port === hostEnd + 1) throw new InvalidReferenceError(text, port, 'a port number is expected after the colon')
    if (port < end) throw new InvalidReferenceError(text, port, 'this can not be part of a port number')
  }
  const domain = text.slice(0, end)
  return domain === legacyDefaultDomain ? defaultDomain : domain
}

function parseIpv6(text: string, end: number): number {
  const position = match(/[a-fA-F0-9:]+/y, text, 1)
  if (position === 1 || text[position] !== ']') {
    throw new InvalidReferenceError(text, position, 'an IPv6 address in brackets is expected, without a zone')
  }
  const after = position + 1
  if (after < end && text[after] !== ':') {
    throw new InvalidReferenceError(text, after, 'a port is expected after the address')
  }
  return after
}

function parseHostName(text: string, end: number): number {
  const position = match(
    /[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*/y,
    text,
    0,
  )
  if (position < end && text[position] !== ':') {
    throw new InvalidReferenceError(text, position, 'this can not be part of a host name')
  }
  if (position === 0) throw new InvalidReferenceError(text, 0, 'a host name is expected')
  return position
}

/** Checks the path components from `start`; returns where the tag, the digest or the end is. */
function parseName(text: string, start: number): number {
  let position = start
  for (;;) {
    const end = match(/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*/y, text, position)
    const next = text[end]
    if (end > position && (next === undefined || next === ':' || next === '@')) return end
    if (end === position || next !== '/') throw new InvalidReferenceError(text, end, nameFault(next))
    position = end + 1
  }
}

function nameFault(character: string | undefined): string {
  if (character === undefined || character === '/' || character === ':' || character === '@') {
    return 'a repository name is expected'
  }
  if (/[A-Z]/.test(character)) return 'a repository name must be lower case'
  if (/[._-]/.test(character)) return 'separators must stand between letters or digits, as ".", "_", "__" or dashes'
  return 'this can not be part of a repository name'
}

/** Checks the tag from `start`; returns where the digest or the end is. */
function parseTag(text: string, start: number): number {
  const end = match(/\w[\w.-]*/y, text, start)
  if (end === start) throw new InvalidReferenceError(text, end, 'a tag is expected after the colon')
  if (end - start > maxTagLength) {
    throw new InvalidReferenceError(text, start + maxTagLength, `the tag is longer than ${maxTagLength} characters`)
  }
  if (end < text.length && text[end] !== '@') {
    throw new InvalidReferenceError(text, end, 'this can not be part of a tag')
  }
  return end
}

function parseDigestPart(text: string, at: number): Digest {
  const digest = text.slice(at + 1)
  const fault = digestFault(digest)
  if (fault !== undefined) throw new InvalidReferenceError(text, at + 1, `the digest is not valid: ${fault}`)
  return digest as Digest
}

/** Where the match of a sticky pattern at `position` ends; `position` itself when there is none. */
function match(sticky: RegExp, text: string, position: number): number {
  sticky.lastIndex = position
  return sticky.test(text) ? sticky.lastIndex : position
}
