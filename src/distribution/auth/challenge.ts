/** One challenge of a `WWW-Authenticate` header (RFC 9110, 11.6.1). */
export interface Challenge {
  /** Scheme in lower case: `basic`, `bearer`. */
  readonly scheme: string
  /** Parameters by name in lower case; of a name that occurs twice, the first. */
  readonly parameters: ReadonlyMap<string, string>
}

/** Characters of a header that are looked at; Node itself cuts the sum of all headers at 16 KiB. */
const maxLength = 16 * 1024
/** Challenges, and parameters of one challenge, that are kept. */
const maxItems = 32

/** A token (RFC 9110, 5.6.2). */
const token = /[!#$%&'*+.^_`|~0-9A-Za-z-]+/y
/** `name = value`, where the value is a token or a quoted string. Bad white space is allowed around `=`. */
const parameter =
  /([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([!#$%&'*+.^_`|~0-9A-Za-z:/?=@-]+))/y
/** Credentials that some schemes put in place of parameters. */
const token68 = /[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))/y
const separators = /[ \t,]*/y
const spaces = /[ \t]+/y

/**
 * The challenges of a `WWW-Authenticate` header, in order; several headers joined with commas are
 * one. What follows a fault in the syntax is dropped: registries get this header wrong, and one
 * usable challenge is enough.
 */
export function parseChallenges(header: string | null): readonly Challenge[] {
  const text = (header ?? '').slice(0, maxLength)
  const challenges: Challenge[] = []
  let position = 0
  const take = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = position
    const match = pattern.exec(text)
    if (match !== null) position = pattern.lastIndex
    return match
  }
  take(separators)
  while (position < text.length && challenges.length < maxItems) {
    const scheme = take(token)?.[0]
    if (scheme === undefined) break
    const parameters = new Map<string, string>()
    challenges.push({ scheme: scheme.toLowerCase(), parameters })
    if (take(spaces) !== null) readParameters(take, parameters)
    const before = position
    take(separators)
    if (position === before) break
  }
  return challenges
}

function readParameters(take: (pattern: RegExp) => RegExpExecArray | null, parameters: Map<string, string>): void {
  for (let match = take(parameter); match !== null && parameters.size < maxItems; match = take(nextParameter)) {
    const [, name = '', quoted, plain] = match
    const value = quoted === undefined ? (plain ?? '') : quoted.replace(/\\(.)/g, '$1')
    if (!parameters.has(name.toLowerCase())) parameters.set(name.toLowerCase(), value)
  }
  if (parameters.size === 0) take(token68)
}

/** A further parameter of the same challenge: a token that is not followed by `=` begins the next challenge. */
const nextParameter = new RegExp(`[ \\t]*,[ \\t,]*${parameter.source}`, 'y')
