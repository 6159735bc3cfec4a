import { ProtocolError } from '../errors.ts'
import { redactUrl } from '../internal/redact.ts'
import { refusalOf } from './origin.ts'
import type { HttpResponse } from './transport.ts'

/** Where the content goes: relative or absolute, on this host or another one (which gets no credential). */
export function uploadLocation(response: HttpResponse): URL {
  const location = response.headers.get('location')
  const refuse = (reason: string): never => {
    throw new ProtocolError(redactUrl(response.url), `names an upload location that is not used: ${reason}`)
  }
  if (location === null || !URL.canParse(location, response.url.href)) return refuse('it is no valid URL')
  const target = new URL(location, response.url)
  target.hash = ''
  const reason = refusalOf(response.url, target)
  return reason === undefined ? target : refuse(`${redactUrl(target)}: ${reason}`)
}

/** Where the upload is ended. The rest of the query stays as the registry has written it: it may be signed. */
export function withDigest(location: URL, digest: string): URL {
  const url = new URL(location)
  url.search += `${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`
  return url
}
