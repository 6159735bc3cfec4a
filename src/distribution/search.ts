import type { ContentOptions } from '../content/interfaces.ts'
import { isJsonObject, parseJson } from '../internal/json.ts'
import type { Connection } from './connection.ts'
import { listRepositories } from './listings.ts'
import { readBody } from './response.ts'

/** How a registry is searched. */
export interface SearchOptions extends ContentOptions {
  /** Registry to search; default `docker.io`. */
  readonly registry?: string | undefined
}

/** A repository that was found. Texts are those of its owner: show them as such. */
export interface SearchResult {
  /** As references name it: `docker.io/library/alpine`. */
  readonly name: string
  /** At most 1000 characters; empty where the registry has none. */
  readonly description: string
  /** How many people like it; 0 where the registry does not count. */
  readonly stars: number
  readonly official: boolean
}

/** Docker Hub's own search, beside the specification; `docker search` uses it too. */
const hubSearch = 'https://index.docker.io/v1/search'
/** Results of one page, pages, and bytes of one page. */
const [pageSize, maxPages, maxPage] = [100, 100, 4 * 1024 * 1024]

/** Searches Docker Hub by its API, and other registries in the list of their repositories. */
export async function* search(
  connection: Connection,
  registry: string,
  term: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<SearchResult, void, undefined> {
  if (registry === 'docker.io') {
    yield* searchHub(connection, term, signal)
    return
  }
  for await (const name of listRepositories(connection, registry, { signal })) {
    if (!name.includes(term.toLowerCase())) continue
    yield { name: `${registry}/${name}`, description: '', stars: 0, official: false }
  }
}

async function* searchHub(
  connection: Connection,
  term: string,
  signal: AbortSignal | undefined,
): AsyncGenerator<SearchResult, void, undefined> {
  const subject = 'search on docker.io'
  for (let page = 1, pages = 1; page <= pages; page++) {
    const query = new URLSearchParams({ q: term, n: String(pageSize), page: String(page) })
    const response = await connection.request({
      method: 'GET',
      url: new URL(`${hubSearch}?${query}`),
      repository: '',
      scope: '',
      subject,
      accept: [200],
      signal,
    })
    const document = parseJson(await readBody(response, maxPage, subject, signal), subject)
    const { results, num_pages: count } = isJsonObject(document) ? document : {}
    if (!Array.isArray(results) || results.length === 0) return
    pages = Math.min(maxPages, typeof count === 'number' ? count : 1)
    for (const entry of results) if (isJsonObject(entry) && typeof entry.name === 'string') yield hubResult(entry)
  }
}

function hubResult({
  name,
  description,
  star_count: stars,
  is_official: official,
}: Record<string, unknown>): SearchResult {
  const short = String(name)
  return {
    name: `docker.io/${short.includes('/') ? short : `library/${short}`}`,
    description: typeof description === 'string' ? description.slice(0, 1000) : '',
    stars: typeof stars === 'number' ? stars : 0,
    official: official === true,
  }
}
