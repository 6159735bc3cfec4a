import type { ContentOptions } from '../content/interfaces.ts'
import type { Connection } from './connection.ts'
import { toCount } from './count.ts'
import { type Endpoint, isTag, send, subjectOf } from './endpoint.ts'
import { namesOf, readPages } from './paging.ts'

/** How a list is read. */
export interface ListOptions extends ContentOptions {
  /** Entries to ask for at a time, 1 to 10,000; default 1000. A registry may send fewer or more. */
  readonly pageSize?: number | undefined
  /** List only what comes after this name, in the order of the registry. */
  readonly last?: string | undefined
}

/** Tags of a repository, in the order in which the registry lists them; nothing is requested before the first is read. */
export async function* listTags(endpoint: Endpoint, options: ListOptions): AsyncGenerator<string, void, undefined> {
  const { signal } = options
  const fetchPage = (path: string | URL) =>
    send(endpoint, { method: 'GET', path, actions: ['pull'], accept: [200], signal })
  const subject = `tags of ${subjectOf(endpoint)}`
  for await (const page of readPages(`tags/list${query(options)}`, fetchPage, subject, signal)) {
    yield* namesOf(page, 'tags', isTag)
  }
}

/** Repositories of a registry (the reserved extension `_catalog`). */
export async function* listRepositories(
  connection: Connection,
  registry: string,
  options: ListOptions,
): AsyncGenerator<string, void, undefined> {
  const { signal } = options
  const subject = `catalog of ${registry}`
  const fetchPage = (path: string | URL) =>
    connection.request({
      method: 'GET',
      url: new URL(path, connection.origin),
      repository: '',
      scope: 'registry:catalog:*',
      subject,
      accept: [200],
      signal,
    })
  for await (const page of readPages(`/v2/_catalog${query(options)}`, fetchPage, subject, signal)) {
    yield* namesOf(page, 'repositories', isRepositoryName)
  }
}

function query({ pageSize, last }: ListOptions): string {
  const parameters = new URLSearchParams({ n: String(toCount(pageSize ?? 1000, 'pageSize', 10_000)) })
  if (last !== undefined) parameters.set('last', last)
  return `?${parameters}`
}

/** Wider than the grammar: registries have names that it does not allow, but none with other characters. */
function isRepositoryName(text: string): boolean {
  return text.length <= 255 && /^[\w.-]+(?:\/[\w.-]+)*$/.test(text)
}
