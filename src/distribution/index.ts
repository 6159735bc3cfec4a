/**
 * Registries: a client of distribution-spec.
 *
 * A repository is a content store, so that `copy` of oci-ts/content pulls, pushes and mirrors:
 *
 * ```ts
 * const repository = openRepository('docker.io/library/alpine')
 * await copy(repository, '3.20', store)
 * ```
 *
 * @packageDocumentation
 */

export { type ContainersAuthOptions, containersAuthCredentials } from './auth/containers-auth.ts'
export {
  anonymous,
  type Credential,
  type CredentialFinding,
  type CredentialProvider,
  type CredentialRequest,
  firstCredential,
  staticCredentials,
} from './auth/credential.ts'
export { type KeptCredential, removeCredential, saveCredential } from './auth/credential-store.ts'
export { type DockerConfigOptions, dockerConfigCredentials } from './auth/docker-config.ts'
export type { AuthExplanation } from './auth/explain.ts'
export { type DownloadOptions, download } from './download.ts'
export type { RegistryEvent, RegistryListener } from './events.ts'
export type { FetchInit, FetchLike, HeadersLike, ResponseLike } from './fetch.ts'
export type { ListOptions } from './listings.ts'
export { type RegistriesConfOptions, readRegistriesConf } from './mirrors/registries-conf.ts'
export type { MirrorRule, RegistryRule } from './mirrors/rules.ts'
export { type CertificateDirectoryOptions, certificateDirectories } from './network/certs-d.ts'
export { type ProxyProvider, proxyFromEnvironment } from './network/proxy.ts'
export type { TlsByHost, TlsOptions, TlsProvider } from './network/tls.ts'
export type { Insecure } from './origin.ts'
export type { RangeOptions } from './parallel-content.ts'
export {
  createRegistryClient,
  openRepository,
  type RegistryClient,
  type RegistryClientOptions,
  type RegistryTimeouts,
} from './registry-client.ts'
export type { PushOptions, Repository } from './repository.ts'
export type { RetryOptions } from './retry.ts'
export type { SearchOptions, SearchResult } from './search.ts'
export type { UploadOptions } from './upload-options.ts'
