import { UnsupportedError } from '../../errors.ts'
import { formatReference, parseReference, type Reference } from '../../image/reference.ts'

/** Where the repositories below a prefix really are (containers-registries.conf(5)). */
export interface RegistryRule {
  /** What it is about: `docker.io`, `ghcr.io/org`, `*.example.com`. Of several that fit, the longest counts. */
  readonly prefix: string
  /** What stands in place of the prefix: `registry.example.com/hub`. Default the prefix itself. */
  readonly location?: string | undefined
  /** Whether it is spoken to in plain http; default by the client's option `insecure`. */
  readonly insecure?: boolean | undefined
  /** Whether nothing may be pulled from there or pushed there; default false. */
  readonly blocked?: boolean | undefined
  /** Asked before it, in this order, when something is pulled. */
  readonly mirrors?: readonly MirrorRule[] | undefined
}

/** A registry that has copies. It gets its own credentials, never those of the registry it mirrors. */
export interface MirrorRule {
  /** What stands in place of the prefix: `mirror.example.com/hub`. */
  readonly location: string
  readonly insecure?: boolean | undefined
  /** What is pulled from it: by `digest`, where it can't give anything wrong; by `tag`; default `all`. */
  readonly pull?: 'all' | 'digest' | 'tag' | undefined
  /** Whether it is told, by `ns=`, which registry it stands for; for proxies of several. Default false. */
  readonly ns?: boolean | undefined
}

/** A repository somewhere. */
export interface Place {
  readonly reference: Reference
  readonly insecure: boolean | undefined
}

/** Where a copy may be. */
export interface MirrorPlace extends Place {
  readonly pull: 'all' | 'digest' | 'tag'
  readonly ns: boolean
}

/** Where a repository is, and where copies of it may be. */
export interface Route extends Place {
  readonly mirrors: readonly MirrorPlace[]
}

/**
 * Finds where a repository is by rules.
 * @throws UnsupportedError when it is blocked; InvalidReferenceError when a location makes no sense.
 */
export function findRoute(rules: readonly RegistryRule[], { domain, repository }: Reference): Route {
  const name = `${domain}/${repository}`
  const rule = rules
    .filter(({ prefix }) => matchedLength(prefix, name) !== undefined)
    .sort((a, b) => b.prefix.length - a.prefix.length)[0]
  if (rule === undefined) return { reference: { domain, repository }, insecure: undefined, mirrors: [] }
  if (rule.blocked === true) {
    throw new UnsupportedError(formatReference({ domain, repository }), `the configuration blocks ${rule.prefix}`)
  }
  const rest = name.slice(matchedLength(rule.prefix, name) ?? name.length)
  const place = (location: string): Reference => parseReference(`${location.replace(/\/$/, '')}${rest}`)
  const mirrors = rule.mirrors ?? []
  return {
    reference: rule.location === undefined ? { domain, repository } : place(rule.location),
    insecure: rule.insecure,
    mirrors: mirrors.map(({ location, insecure, pull = 'all', ns = false }) => ({
      reference: place(location),
      insecure,
      pull,
      ns,
    })),
  }
}

/** Characters of `name` that a prefix stands for; undefined when it does not fit. */
function matchedLength(prefix: string, name: string): number | undefined {
  if (prefix.startsWith('*.')) {
    const host = name.slice(0, name.indexOf('/')).replace(/:\d+$/, '')
    return host.endsWith(prefix.slice(1)) ? name.indexOf('/') : undefined
  }
  return name === prefix || name.startsWith(`${prefix}/`) ? prefix.length : undefined
}
