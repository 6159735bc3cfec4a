import { LimitError, ProtocolError } from '../errors.ts'
import { parseJson } from '../internal/json.ts'
import { redactUrl } from '../internal/redact.ts'
import { quote } from '../internal/text.ts'
import { refusalOf } from './origin.ts'
import { readBody } from './response.ts'
import type { HttpResponse } from './transport.ts'

/** One page of a list. */
export interface Page {
  readonly response: HttpResponse
  /** The body, bounded in size. */
  readonly bytes: Uint8Array
}

/** Bytes of one page, and pages of one list: a registry could link on without end. */
const maxPageBytes = 8 * 1024 * 1024
const maxPages = 2_000

/**
 * Reads a list page by page, by the `Link` of each answer: how many entries a page has says nothing
 * about whether another one follows. Ends with an error, not in a loop, when a page links to one
 * that was read before. `fetchPage` may return undefined to end the list.
 * @throws ProtocolError for a link that is not followed, LimitError for a list without end.
 */
export async function* readPages(
  first: string,
  fetchPage: (path: string | URL) => Promise<HttpResponse | undefined>,
  subject: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<Page, void, undefined> {
  const seen = new Set<string>()
  let next: string | URL | undefined = first
  for (let count = 0; next !== undefined; count++) {
    if (count === maxPages) throw new LimitError(subject, maxPages, 'pages')
    const response: HttpResponse | undefined = await fetchPage(next)
    if (response === undefined) return
    const bytes = await readBody(response, maxPageBytes, subject, signal)
    const link: URL | undefined = nextPage(response)
    seen.add(response.url.href)
    if (link !== undefined && seen.has(link.href)) {
      throw new ProtocolError(redactUrl(response.url), 'links to a page of the list that has been read before')
    }
    yield { response, bytes }
    next = link
  }
}

/** Where the next page is; undefined when this is the last one. */
function nextPage(response: HttpResponse): URL | undefined {
  const target = nextLink(response.headers.get('link') ?? '')
  if (target === undefined) return undefined
  const refuse = (reason: string): never => {
    throw new ProtocolError(redactUrl(response.url), `links to a next page that is not read: ${reason}`)
  }
  if (!URL.canParse(target, response.url.href)) return refuse('it is no valid URL')
  const url = new URL(target, response.url)
  url.hash = ''
  const reason = refusalOf(response.url, url)
  if (reason !== undefined) return refuse(`${redactUrl(url)}: ${reason}`)
  // The list is the registry's to give: another host could add to it what the registry never said.
  return url.origin === response.url.origin ? url : refuse(`${redactUrl(url)} is another origin`)
}

/** The first target with the relation `next` in a `Link` header (RFC 8288). */
export function nextLink(header: string): string | undefined {
  for (const [, target, parameters = ''] of header.slice(0, 16_384).matchAll(/<([^>]*)>([^<]*)/g)) {
    const [, quoted, plain] = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s;,"]+))/i.exec(parameters) ?? []
    const relations = (quoted ?? plain ?? '').toLowerCase().split(/\s+/)
    if (relations.includes('next')) return target
  }
  return undefined
}

/** The strings of the list `name` in a page; null, as Go writes it, is an empty one. @throws ProtocolError */
export function namesOf({ bytes, response }: Page, name: string, valid: (text: string) => boolean): string[] {
  const document = parseJson(bytes, redactUrl(response.url))
  const list: unknown = typeof document === 'object' && document !== null ? Reflect.get(document, name) : undefined
  if (list === null) return []
  const refuse = (reason: string): never => {
    throw new ProtocolError(redactUrl(response.url), reason)
  }
  if (!Array.isArray(list)) return refuse(`the answer has no list ${quote(name)}`)
  return list.map((entry: unknown) => {
    if (typeof entry === 'string' && valid(entry)) return entry
    return refuse(`the list ${quote(name)} has an entry that is no name: ${quote(String(JSON.stringify(entry)))}`)
  })
}
