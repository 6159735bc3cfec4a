import { ProtocolError } from '../../errors.ts'
import { redactUrl } from '../../internal/redact.ts'
import { quote } from '../../internal/text.ts'
import { isLoopback, refusalOf } from '../origin.ts'

/**
 * URL of the token server that a registry names in its challenge.
 *
 * It may be on another host: that is how token authentication works (Docker Hub:
 * `https://auth.docker.io/token`), and a registry that wanted its own users' passwords could ask for
 * Basic and have them. So the registry's credential, and no other, goes to the realm it names, under
 * these conditions: the realm is https, unless the registry itself is spoken to in plain http; it is
 * no link-local address and, unless the registry is on this machine as well, not this machine; and no
 * redirect is followed from there.
 * @throws ProtocolError for any other realm.
 */
export function realmUrl(origin: URL, realm: string): URL {
  const shown = URL.canParse(realm) ? redactUrl(realm) : quote(realm)
  const refuse = (reason: string): never => {
    throw new ProtocolError(redactUrl(origin), `names a token server that is not asked, ${shown}: ${reason}`)
  }
  if (!URL.canParse(realm)) return refuse('it is no absolute URL')
  const url = new URL(realm)
  url.hash = ''
  const reason = refusalOf(origin, url)
  if (reason !== undefined) return refuse(reason)
  // A registry on this machine is no reason to send a password over the network in plain text.
  if (url.protocol === 'http:' && isLoopback(origin.hostname) && !isLoopback(url.hostname)) {
    return refuse('it leads from this machine to another one in plain http')
  }
  return url
}
