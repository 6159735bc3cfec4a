import {
  type CredentialFinding,
  type CredentialProvider,
  type CredentialRequest,
  explainProvider,
} from './credential.ts'

/** Where a credential for a repository was looked for, and which one won. Holds no secret. */
export interface AuthExplanation {
  readonly registry: string
  readonly repository: string
  /** Origin that is spoken to; the credential goes there and to the token server that it names. */
  readonly origin: string
  /** Every place that was looked at, in order. */
  readonly findings: readonly CredentialFinding[]
  /** The finding whose credential is sent when the registry asks for one; undefined for none. */
  readonly used: CredentialFinding | undefined
}

/** Asks a provider to explain itself. */
export async function explain(provider: CredentialProvider, request: CredentialRequest): Promise<AuthExplanation> {
  const findings = await explainProvider(provider, request)
  const { registry, repository, origin } = request
  return { registry, repository, origin, findings, used: findings.find(({ outcome }) => outcome === 'used') }
}
