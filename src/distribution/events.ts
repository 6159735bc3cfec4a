import type { HeadersLike } from './fetch.ts'

/** What happens between the client and registries, beside results and errors. Nothing in it is secret. */
export type RegistryEvent =
  /** A registry has something to say to people (distribution-spec, "Warnings"); each text once a registry. */
  | { readonly kind: 'warning'; readonly registry: string; readonly text: string }
  /** How much of a quota is left, as Docker Hub tells with manifests. */
  | {
      readonly kind: 'rate-limit'
      readonly registry: string
      /** Requests that are allowed in the window. */
      readonly limit: number
      /** Requests that are left. */
      readonly remaining: number
      /** Seconds of the window, where the registry tells. */
      readonly window: number | undefined
    }
  /** A request failed in a way that may pass, and is sent again after `delay` milliseconds. */
  | {
      readonly kind: 'retry'
      readonly registry: string
      readonly subject: string
      readonly delay: number
      readonly error: unknown
    }
  /** Content broke off at this many bytes; the rest is requested. */
  | {
      readonly kind: 'resume'
      readonly registry: string
      readonly subject: string
      readonly position: number
      readonly error: unknown
    }
  /** A mirror did not have something, or failed; the next source is asked. */
  | {
      readonly kind: 'mirror-failed'
      readonly registry: string
      readonly mirror: string
      readonly subject: string
      readonly error: unknown
    }
  /** The registry or its token server refused the stored credential, but gave access to read without one. */
  | { readonly kind: 'credential-refused'; readonly registry: string; readonly error: unknown }

/** Is told of events. What it throws is ignored: whether a transfer succeeds does not depend on who watches. */
export type RegistryListener = (event: RegistryEvent) => void

/** A listener that never throws. */
export function quietListener(listener: RegistryListener | undefined): RegistryListener {
  return (event) => {
    try {
      listener?.(event)
    } catch {
      // Nothing depends on it.
    }
  }
}

/** Warnings of one registry that are passed on; and characters of one. */
const maxWarnings = 100
const maxWarningLength = 1000

/** Reads what responses say beside the point, and tells the listener. */
export class HeaderReader {
  readonly #registry: string
  readonly #listener: RegistryListener
  readonly #warnings: Set<string> = new Set()

  constructor(registry: string, listener: RegistryListener) {
    this.#registry = registry
    this.#listener = listener
  }

  read(headers: HeadersLike): void {
    const warning = headers.get('warning')
    if (warning !== null) for (const text of parseWarnings(warning)) this.#warn(text)
    const [limit, remaining] = ['ratelimit-limit', 'ratelimit-remaining'].map((name) => parseQuota(headers.get(name)))
    if (limit === undefined || remaining === undefined) return
    const event = {
      kind: 'rate-limit',
      registry: this.#registry,
      limit: limit.count,
      remaining: remaining.count,
    } as const
    this.#listener({ ...event, window: remaining.window ?? limit.window })
  }

  #warn(text: string): void {
    if (this.#warnings.has(text) || this.#warnings.size >= maxWarnings) return
    this.#warnings.add(text)
    this.#listener({ kind: 'warning', registry: this.#registry, text })
  }
}

/**
 * Texts of a `Warning` header as distribution-spec has it: `299 - "text"`, nothing else. Control
 * characters are escaped: it is meant for a terminal.
 */
export function parseWarnings(header: string): readonly string[] {
  const texts: string[] = []
  for (const [, text = ''] of header.slice(0, 16_384).matchAll(/(?:^|,)\s*299 - "((?:[^"\\]|\\.)*)"(?=\s*(?:,|$))/g)) {
    const plain = text.replace(/\\(.)/g, '$1').slice(0, maxWarningLength)
    texts.push(plain.replace(/[^\x20-\x7e\xa0-\uffff]/g, escapeCharacter))
  }
  return texts
}

function escapeCharacter(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
}

/** `100;w=21600`, or a number alone. */
function parseQuota(
  header: string | null,
): { readonly count: number; readonly window: number | undefined } | undefined {
  const [, count, window] = /^\s*(\d{1,12})(?:\s*;\s*w=(\d{1,12}))?/.exec(header ?? '') ?? []
  if (count === undefined) return undefined
  return { count: Number(count), window: window === undefined ? undefined : Number(window) }
}
