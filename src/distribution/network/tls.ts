import type { SecureContext } from 'node:tls'
import { InvalidArgumentError } from '../../errors.ts'

/** How TLS connections to one host are made. Certificates and keys are PEM. */
export interface TlsOptions {
  /** Certificates that are trusted besides those of Node. */
  readonly ca?: string | readonly string[] | undefined
  /** Our own certificate, with its chain, for registries that want to know their clients (mutual TLS). */
  readonly cert?: string | undefined
  /** Its private key. */
  readonly key?: string | undefined
  /** What the key is encrypted with. */
  readonly passphrase?: string | undefined
  /**
   * Whether any certificate is accepted; default false. Who can intercept the connection then reads
   * credentials, though content that is asked for by digest can't be forged.
   */
  readonly skipVerify?: boolean | undefined
}

/** Finds the TLS options of a host (`ghcr.io`, `registry.test:5000`); undefined means Node's defaults. */
export type TlsProvider = (host: string) => Promise<TlsOptions | undefined>

/** TLS options by `host` or `host:port`; `*` is for all other hosts. */
export type TlsByHost = Readonly<Record<string, TlsOptions>>

/** Makes a provider of whatever was given. */
export function tlsProvider(tls: TlsByHost | TlsProvider): TlsProvider {
  if (typeof tls === 'function') return tls
  const byHost = new Map(Object.entries(tls).map(([host, options]) => [host.toLowerCase(), options]))
  return async (host) => byHost.get(host) ?? byHost.get(host.replace(/:443$/, '')) ?? byHost.get('*')
}

/** Hosts whose options are remembered. */
const maxHosts = 256

/** Asks once a host. */
export function cachedTls(provider: TlsProvider): TlsProvider {
  const answers = new Map<string, Promise<TlsOptions | undefined>>()
  return (host) => {
    const known = answers.get(host)
    if (known !== undefined) return known
    const answer = provider(host)
    answer.catch(() => answers.delete(host))
    if (answers.size < maxHosts) answers.set(host, answer)
    return answer
  }
}

/** What an agent takes of it: one context, so that certificates are parsed once and not for each connection. */
export async function tlsContext(
  options: TlsOptions,
  host: string,
): Promise<{ readonly secureContext: SecureContext; readonly rejectUnauthorized: boolean }> {
  const tls = await import('node:tls')
  const { ca, cert, key, passphrase, skipVerify = false } = options
  const trusted = typeof ca === 'string' ? [ca] : (ca ?? [])
  try {
    const secureContext = tls.createSecureContext({
      ...(trusted.length === 0 ? {} : { ca: [...defaultRoots(tls), ...trusted] }),
      ...(cert === undefined ? {} : { cert }),
      ...(key === undefined ? {} : { key }),
      ...(passphrase === undefined ? {} : { passphrase }),
    })
    return { secureContext, rejectUnauthorized: !skipVerify }
  } catch (cause) {
    // OpenSSL's messages tell the fault, never the key.
    throw new InvalidArgumentError(`the certificates or the key for ${host} can't be used`, { subject: host, cause })
  }
}

/** What Node trusts: newer versions tell all of it, those before only what is built in. */
function defaultRoots(tls: typeof import('node:tls')): readonly string[] {
  const ask: unknown = Reflect.get(tls, 'getCACertificates')
  const list: unknown = typeof ask === 'function' ? Reflect.apply(ask, tls, ['default']) : undefined
  return Array.isArray(list) ? (list as readonly string[]) : tls.rootCertificates
}
