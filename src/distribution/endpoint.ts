import { InvalidArgumentError } from '../errors.ts'
import { isDigest } from '../image/digest.ts'
import { quote } from '../internal/text.ts'
import { repositoryScope } from './auth/scope.ts'
import type { Connection, RegistryRequest } from './connection.ts'
import type { ManifestCache } from './manifest-cache.ts'
import type { Mirror } from './mirrors/sources.ts'
import type { RangePolicy } from './parallel-content.ts'
import type { HttpResponse } from './transport.ts'
import type { UploadPolicy } from './upload-options.ts'

/** One repository of one registry, as requests need it. */
export interface Endpoint {
  readonly connection: Connection
  /** Registry as references name it. */
  readonly registry: string
  /** Repository, without the registry. */
  readonly repository: string
  /** Bytes; larger manifests are refused. */
  readonly maxManifestSize: number
  readonly manifests: ManifestCache
  readonly upload: UploadPolicy
  readonly ranges: RangePolicy
  /** Copies that are asked first when something is pulled. */
  readonly mirrors: readonly Mirror[]
  /** Whether it is a mirror: others are asked when it fails. */
  readonly isMirror: boolean
  /** Told by `ns=` to a proxy: the registry it stands for. */
  readonly ns?: string | undefined
  /** Told of what went wrong each time that something about it is tried again. */
  readonly onRetry?: ((reason: unknown) => void) | undefined
}

/** An endpoint, and its mirrors, for one operation that wants to know of repetitions. */
export function heard(endpoint: Endpoint, onRetry: ((reason: unknown) => void) | undefined): Endpoint {
  if (onRetry === undefined) return endpoint
  const mirrors = endpoint.mirrors.map((mirror) => ({ ...mirror, endpoint: { ...mirror.endpoint, onRetry } }))
  return { ...endpoint, mirrors, onRetry }
}

/** A request below `/v2/<repository>/`. */
export interface EndpointRequest
  extends Omit<RegistryRequest, 'url' | 'repository' | 'scope' | 'subject' | 'onRetry' | 'hasAlternative'> {
  /** Below the repository: `blobs/uploads/`. A URL when a registry has named one. */
  readonly path: string | URL
  readonly actions: readonly ('pull' | 'push' | 'delete')[]
  /** Tag or digest that the request is about; default the repository as a whole. */
  readonly reference?: string | undefined
  /** Another repository whose content the request is about; it must be readable with the same token. */
  readonly from?: string | undefined
}

/** Sends a request about a repository. */
export function send(endpoint: Endpoint, request: EndpointRequest): Promise<HttpResponse> {
  const { connection, repository, onRetry } = endpoint
  const { path, actions, reference, from, ...rest } = request
  const scope = repositoryScope(repository, ...actions)
  return connection.request({
    ...rest,
    onRetry,
    hasAlternative: endpoint.isMirror,
    url: typeof path === 'string' ? endpointUrl(endpoint, path) : path,
    repository,
    scope: from === undefined ? scope : `${scope} ${repositoryScope(from, 'pull')}`,
    subject: subjectOf(endpoint, reference),
  })
}

function endpointUrl({ connection, repository, ns }: Endpoint, path: string): URL {
  const url = new URL(`/v2/${repository}/${path}`, connection.origin)
  if (ns !== undefined) url.searchParams.set('ns', ns)
  return url
}

/** How messages call a tag or digest of a repository. */
export function subjectOf({ registry, repository }: Endpoint, reference?: string): string {
  if (reference === undefined) return `${registry}/${repository}`
  return `${registry}/${repository}${reference.includes(':') ? '@' : ':'}${reference}`
}

/** @throws InvalidArgumentError when `reference` is neither a tag nor a digest: it becomes part of a URL. */
export function assertReference(reference: string): void {
  if (isTag(reference) || isDigest(reference)) return
  throw new InvalidArgumentError(`${quote(reference)} is neither a tag nor a digest`, { subject: reference })
}

/** Whether a string is a tag by the grammar of distribution-spec. */
export function isTag(text: string): boolean {
  return /^\w[\w.-]{0,127}$/.test(text)
}
