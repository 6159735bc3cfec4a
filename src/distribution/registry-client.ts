import type { ContentOptions } from '../content/interfaces.ts'
import { documentLimits } from '../content/limits.ts'
import { parseReference, type Reference } from '../image/reference.ts'
import { joinSignals } from '../internal/join-signals.ts'
import { type Bytes, type Duration, toBytes, toMilliseconds } from '../internal/units.ts'
import { Authorizer } from './auth/authorizer.ts'
import type { CredentialProvider } from './auth/credential.ts'
import { defaultCredentials } from './auth/default-credentials.ts'
import { type AuthExplanation, explain } from './auth/explain.ts'
import { Connection } from './connection.ts'
import type { Endpoint } from './endpoint.ts'
import { quietListener, type RegistryListener } from './events.ts'
import type { FetchLike } from './fetch.ts'
import { type ListOptions, listRepositories } from './listings.ts'
import { ManifestCache } from './manifest-cache.ts'
import { findRoute, type Place, type RegistryRule } from './mirrors/rules.ts'
import type { Mirror } from './mirrors/sources.ts'
import { certificateDirectories } from './network/certs-d.ts'
import { type ProxyProvider, proxyProvider } from './network/proxy.ts'
import { cachedTls, type TlsByHost, type TlsProvider, tlsProvider } from './network/tls.ts'
import { type Insecure, registryOrigin } from './origin.ts'
import { type RangeOptions, type RangePolicy, rangePolicy } from './parallel-content.ts'
import { Repository } from './repository.ts'
import { type RetryOptions, type RetryPolicy, retryPolicy } from './retry.ts'
import { type SearchOptions, type SearchResult, search } from './search.ts'
import { Transport } from './transport.ts'
import { type UploadOptions, type UploadPolicy, uploadPolicy } from './upload-options.ts'

/** How registries are spoken to. */
export interface RegistryClientOptions {
  /** Where credentials come from; default the files of Docker and podman. `anonymous` uses none. */
  readonly credentials?: CredentialProvider | undefined
  /** Which registries are spoken to in plain http; default those on this machine. */
  readonly insecure?: Insecure | undefined
  /**
   * Certificates by host, or what finds them; default the `certs.d` directories of Docker and podman.
   */
  readonly tls?: TlsByHost | TlsProvider | undefined
  /** Proxy for all hosts, what finds it, or false for none; default what the environment says (`HTTPS_PROXY`, `NO_PROXY`). */
  readonly proxy?: string | false | ProxyProvider | undefined
  /** Sends the requests; default node-fetch with kept connections. With it `tls` and `proxy` have no effect. */
  readonly fetch?: FetchLike | undefined
  /** `User-Agent`; default `oci-ts`. */
  readonly userAgent?: string | undefined
  /** How failures that may pass are repeated. */
  readonly retry?: RetryOptions | undefined
  /** The longest silence that is waited out. Neither is a limit on how long a transfer takes. */
  readonly timeouts?: RegistryTimeouts | undefined
  /** Size of a manifest or index; larger ones are refused. Default 4 MiB, what every registry must accept. */
  readonly maxManifestSize?: Bytes | undefined
  /** Mirrors, rewritten and blocked registries; default none. `readRegistriesConf` reads podman's. */
  readonly registries?: readonly RegistryRule[] | undefined
  /** How blobs are uploaded; default in one PUT. */
  readonly upload?: UploadOptions | undefined
  /** Whether large blobs are pulled in several parts at the same time; default not. */
  readonly ranges?: RangeOptions | undefined
  /** Told of warnings, rate limits, retries and the like. */
  readonly onEvent?: RegistryListener | undefined
  /** Aborts everything that the client does. */
  readonly signal?: AbortSignal | undefined
}

/** How long silence is taken for life. */
export interface RegistryTimeouts {
  /** From the request to the response's headers; default 30 seconds. A blob's commit is given 5 minutes. */
  readonly headers?: Duration | undefined
  /** Between two parts of a body, either way; default 30 seconds. */
  readonly stall?: Duration | undefined
}

/** Registries, with their connections, challenges and tokens kept for the next request. */
export interface RegistryClient extends AsyncDisposable {
  /**
   * The repository that a reference names, as a content store; its tag and digest are not looked at.
   * No request is sent.
   * @throws InvalidReferenceError; UnsupportedError when `registries` block it.
   */
  repository(reference: string | Reference): Repository
  /**
   * Asks a registry, `ghcr.io` or `127.0.0.1:5000`, whether it speaks the protocol and takes the credential
   * for it (`GET /v2/`). Some say yes to everybody.
   * @throws RegistryError with status 401 or 403 when it does not; NotFoundError when it is no registry.
   */
  ping(registry: string, options?: ContentOptions): Promise<void>
  /**
   * Names of a registry's repositories, `ghcr.io` or `127.0.0.1:5000`, where it tells them: this is an
   * extension of the specification that public registries leave out.
   */
  catalog(registry: string, options?: ListOptions): AsyncGenerator<string, void, undefined>
  /**
   * Repositories that have to do with `term`: on Docker Hub by its search, elsewhere those of the
   * {@link catalog} whose name has it.
   */
  search(term: string, options?: SearchOptions): AsyncGenerator<SearchResult, void, undefined>
  /**
   * Tells where a credential for a repository is looked for and which one wins. Nothing is sent; files
   * are read and helpers run as they would be.
   * @throws InvalidReferenceError
   */
  explainAuth(reference: string | Reference): Promise<AuthExplanation>
  /** Closes idle connections. Not necessary: they keep no process alive and close by themselves. */
  close(): void
}

/**
 * Makes a client; nothing is loaded, read or connected before its first request.
 * @throws InvalidArgumentError for an option that makes no sense.
 */
export function createRegistryClient(options: RegistryClientOptions = {}): RegistryClient {
  return new Client(options)
}

/** One repository with a client of its own: `openRepository('ghcr.io/org/app')`. */
export function openRepository(reference: string | Reference, options: RegistryClientOptions = {}): Repository {
  return createRegistryClient(options).repository(reference)
}

class Client implements RegistryClient {
  readonly #options: RegistryClientOptions
  readonly #transport: Transport
  readonly #retry: RetryPolicy
  readonly #maxManifestSize: number
  readonly #upload: UploadPolicy
  readonly #ranges: RangePolicy
  readonly #credentials: CredentialProvider
  readonly #notify: RegistryListener
  readonly #connections: Map<string, Connection> = new Map()

  constructor(options: RegistryClientOptions) {
    const { timeouts = {} } = options
    this.#options = options
    this.#retry = retryPolicy(options.retry)
    this.#maxManifestSize = toBytes(options.maxManifestSize ?? documentLimits.manifest, 'maxManifestSize')
    this.#credentials = options.credentials ?? defaultCredentials()
    this.#notify = quietListener(options.onEvent)
    this.#upload = uploadPolicy(options.upload)
    this.#ranges = rangePolicy(options.ranges)
    this.#transport = new Transport({
      fetch: options.fetch,
      tls: cachedTls(tlsProvider(options.tls ?? certificateDirectories())),
      proxy: proxyProvider(options.proxy),
      userAgent: options.userAgent ?? 'oci-ts',
      headersTimeout: toMilliseconds(timeouts.headers ?? '30s', 'timeouts.headers'),
      stallTimeout: toMilliseconds(timeouts.stall ?? '30s', 'timeouts.stall'),
    })
  }

  repository(reference: string | Reference): Repository {
    const parsed = typeof reference === 'string' ? parseReference(reference) : reference
    const route = findRoute(this.#options.registries ?? [], parsed)
    const manifests = new ManifestCache()
    const mirrors = route.mirrors.map((mirror) => ({
      endpoint: {
        ...this.#endpoint(mirror, manifests, []),
        isMirror: true,
        ns: mirror.ns ? parsed.domain : undefined,
      },
      pull: mirror.pull,
    }))
    return new Repository(parsed, this.#endpoint(route, manifests, mirrors), this.#options.signal)
  }

  #endpoint(place: Place, manifests: ManifestCache, mirrors: readonly Mirror[]): Endpoint {
    const { domain, repository } = place.reference
    return {
      connection: this.#connection(domain, place.insecure),
      registry: domain,
      repository,
      maxManifestSize: this.#maxManifestSize,
      manifests,
      upload: this.#upload,
      ranges: this.#ranges,
      mirrors,
      isMirror: false,
    }
  }

  async ping(registry: string, { signal, onRetry }: ContentOptions = {}): Promise<void> {
    const connection = this.#connection(registry)
    const response = await connection.request({
      method: 'GET',
      url: new URL('/v2/', connection.origin),
      repository: '',
      scope: '',
      subject: registry,
      accept: [200],
      onRetry,
      signal: joinSignals(signal, this.#options.signal),
    })
    response.discard()
  }

  catalog(registry: string, options: ListOptions = {}): AsyncGenerator<string, void, undefined> {
    const signal = joinSignals(options.signal, this.#options.signal)
    return listRepositories(this.#connection(registry), registry, { ...options, signal })
  }

  search(term: string, options: SearchOptions = {}): AsyncGenerator<SearchResult, void, undefined> {
    const { registry = 'docker.io', signal } = options
    return search(this.#connection(registry), registry, term, joinSignals(signal, this.#options.signal))
  }

  async explainAuth(reference: string | Reference): Promise<AuthExplanation> {
    const { domain, repository } = typeof reference === 'string' ? parseReference(reference) : reference
    const { origin } = this.#connection(domain).origin
    const { signal } = this.#options
    return explain(this.#credentials, { registry: domain, origin, repository, signal })
  }

  close(): void {
    this.#transport.close()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.close()
  }

  #connection(registry: string, insecure: Insecure | undefined = this.#options.insecure): Connection {
    const origin = registryOrigin(registry, insecure)
    const key = `${registry} ${origin.origin}`
    const known = this.#connections.get(key)
    if (known !== undefined) return known
    const [transport, retry] = [this.#transport, this.#retry]
    const [credentials, notify] = [this.#credentials, this.#notify]
    const authorizer = new Authorizer({ registry, origin, credentials, transport, retry, clientId: 'oci-ts', notify })
    const connection = new Connection({ registry, origin, transport, authorizer, retry, notify })
    this.#connections.set(key, connection)
    return connection
  }
}
