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

/** What one source of credentials had to say. Holds no secret. */
export interface CredentialFinding {
  /** The file, program or option that was asked. */
  readonly source: string
  /** `used`: its credential is sent; `unused`: it has one, but an earlier source won; `error`: it can't be used. */
  readonly outcome: 'used' | 'unused' | 'none' | 'error'
  /** Why: which entry matched, what is missing or wrong. */
  readonly detail: string
}

/**
 * Finds the credential for a registry; undefined means to try without. Called when a registry asks
 * for authentication: each time a token is fetched or a password refused, so that a new one is picked up.
 */
export interface CredentialProvider {
  (request: CredentialRequest): Promise<Credential | undefined>
  /** Tells where it looks and what it finds there, in order; for `explainAuth`. */
  readonly explain?: ((request: CredentialRequest) => Promise<readonly CredentialFinding[]>) | undefined
}

/** Never offers a credential. */
export const anonymous: CredentialProvider = async () => undefined

/** A fixed set of credentials by registry, as references name it. */
export function staticCredentials(credentials: Readonly<Record<string, Credential>>): CredentialProvider {
  const byRegistry = new Map(Object.entries(credentials).map(([registry, c]) => [registry.toLowerCase(), c]))
  return lookupCredentials(async function* ({ registry }) {
    const credential = byRegistry.get(registry.toLowerCase())
    const detail = credential === undefined ? `has none for ${registry}` : `has one for ${registry}`
    yield { source: 'staticCredentials', detail, find: async () => credential }
  })
}

/** Asks one provider after another; the first credential counts. */
export function firstCredential(...providers: readonly CredentialProvider[]): CredentialProvider {
  const ask = async (request: CredentialRequest): Promise<Credential | undefined> => {
    for (const provider of providers) {
      const credential = await provider(request)
      if (credential !== undefined) return credential
    }
    return undefined
  }
  const explain = async (request: CredentialRequest): Promise<readonly CredentialFinding[]> => {
    const findings: CredentialFinding[] = []
    for (const provider of providers) {
      const won = findings.some(({ outcome }) => outcome === 'used')
      for (const finding of await explainProvider(provider, request)) {
        findings.push(won && finding.outcome === 'used' ? { ...finding, outcome: 'unused' } : finding)
      }
    }
    return findings
  }
  return Object.assign(ask, { explain })
}

/** What a provider says of itself; of one that says nothing, whether it has a credential. */
export async function explainProvider(
  provider: CredentialProvider,
  request: CredentialRequest,
): Promise<readonly CredentialFinding[]> {
  if (provider.explain !== undefined) return provider.explain(request)
  const one = lookupCredentials(async function* () {
    const source = provider === anonymous ? 'anonymous' : 'credentials (option)'
    yield { source, detail: '', find: () => provider(request) }
  })
  return one.explain?.(request) ?? []
}

/** One place where a credential may be. */
export interface CredentialPlace {
  readonly source: string
  readonly detail: string
  find(): Promise<Credential | undefined>
}

/** A provider that looks in one place after the other, and can tell about it. */
export function lookupCredentials(
  places: (request: CredentialRequest) => AsyncIterable<CredentialPlace>,
): CredentialProvider {
  const ask = async (request: CredentialRequest): Promise<Credential | undefined> => {
    for await (const place of places(request)) {
      const credential = await place.find()
      if (credential !== undefined) return credential
    }
    return undefined
  }
  const explain = async (request: CredentialRequest): Promise<readonly CredentialFinding[]> => {
    const findings: CredentialFinding[] = []
    let source = ''
    let used = false
    try {
      for await (const place of places(request)) {
        source = place.source
        const credential = await place.find()
        const outcome = credential === undefined ? 'none' : used ? 'unused' : 'used'
        used ||= credential !== undefined
        const kind = credential === undefined ? '' : `${place.detail === '' ? '' : ': '}${describe(credential)}`
        findings.push({ source, outcome, detail: `${place.detail}${kind}` })
      }
    } catch (error) {
      request.signal?.throwIfAborted()
      findings.push({ source, outcome: 'error', detail: error instanceof Error ? error.message : String(error) })
    }
    return findings
  }
  return Object.assign(ask, { explain })
}

function describe(credential: Credential): string {
  if (credential.kind === 'password') return `password of ${credential.username}`
  return credential.kind === 'identity' ? 'an identity token' : 'a bearer token'
}
