import { quote } from '../internal/text.ts'
import { Fault } from './fault.ts'
import { isRepository } from './names.ts'

/** What a path asks for (distribution-spec, "Endpoints"). Only the repository has been checked. */
export type Route =
  | { readonly kind: 'base' }
  | { readonly kind: 'catalog' }
  | { readonly kind: 'blob'; readonly repository: string; readonly digest: string }
  | { readonly kind: 'uploads'; readonly repository: string }
  | { readonly kind: 'upload'; readonly repository: string; readonly id: string }
  | { readonly kind: 'manifest'; readonly repository: string; readonly reference: string }
  | { readonly kind: 'tags'; readonly repository: string }
  | { readonly kind: 'referrers'; readonly repository: string; readonly digest: string }

/**
 * Reads the path of a request. A repository name may have components such as `blobs` and `tags`,
 * so a path is told by its last components.
 * @throws Fault when it is none of the specification's, or its repository name is not valid.
 */
export function parseRoute(pathname: string): Route {
  const parts = decode(pathname).split('/')
  if (parts[0] !== '' || parts[1] !== 'v2') throw notFound()
  const path = parts.slice(2)
  if (path.length === 0 || (path.length === 1 && path[0] === '')) return { kind: 'base' }
  if (path.length === 1 && path[0] === '_catalog') return { kind: 'catalog' }
  const last = path.at(-1) ?? ''
  const verb = path.at(-2)
  if (verb === 'manifests') return { kind: 'manifest', repository: repositoryOf(path, 2), reference: last }
  if (verb === 'tags' && last === 'list') return { kind: 'tags', repository: repositoryOf(path, 2) }
  if (verb === 'referrers') return { kind: 'referrers', repository: repositoryOf(path, 2), digest: last }
  if (verb === 'blobs' && last === 'uploads') return { kind: 'uploads', repository: repositoryOf(path, 2) }
  if (verb === 'blobs') return { kind: 'blob', repository: repositoryOf(path, 2), digest: last }
  if (verb === 'uploads' && path.at(-3) === 'blobs') {
    const repository = repositoryOf(path, 3)
    return last === '' ? { kind: 'uploads', repository } : { kind: 'upload', repository, id: last }
  }
  throw notFound()
}

function repositoryOf(path: readonly string[], suffix: number): string {
  const repository = path.slice(0, -suffix).join('/')
  if (isRepository(repository)) return repository
  throw new Fault('NAME_INVALID', `${quote(repository)} is no repository name`)
}

function decode(pathname: string): string {
  try {
    return decodeURIComponent(pathname)
  } catch (error) {
    throw new Fault('UNSUPPORTED', 'the path is not valid percent-encoding', { status: 400, cause: error })
  }
}

function notFound(): Fault {
  return new Fault('UNSUPPORTED', 'no such endpoint', { status: 404 })
}
