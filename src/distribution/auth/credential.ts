/** What opens a registry. */
export type Credential =
  /** For Basic, and for asking a token server for tokens. */
  | { readonly kind: 'password'; readonly username: string; readonly password: string }
  /** A refresh token (Docker: identity token), which a token server exchanges for access tokens (OAuth 2). */
  | { readonly kind: 'identity'; readonly token: string }
  /** An access token that is sent as it is. */
  | { readonly kind: 'bearer'; readonly token: string }

/** What a credential is wanted for. */
export interface CredentialRequest {
  /** Registry as references name it: `docker.io`, `ghcr.io`, `127.0.0.1:5000`. */
  readonly registry: string
  /** Origin that is spoken to, for example `https://registry-1.docker.io`. The credential goes nowhere else. */
  readonly origin: string
  /** Repository, without the registry. */
  readonly repository: string
  readonly signal?: AbortSignal | undefined
}

/**
 * Finds the credential for a registry; undefined means to try without. Called when a registry asks
 * for authentication: each time a token is fetched or a password refused, so that a new one is picked up.
 */
export type CredentialProvider = (request: CredentialRequest) => Promise<Credential | undefined>

/** Never offers a credential. */
export const anonymous: CredentialProvider = async () => undefined

/** A fixed set of credentials by registry, as references name it. */
export function staticCredentials(credentials: Readonly<Record<string, Credential>>): CredentialProvider {
  const byRegistry = new Map(Object.entries(credentials).map(([registry, c]) => [registry.toLowerCase(), c]))
  return async ({ registry }) => byRegistry.get(registry.toLowerCase())
}
