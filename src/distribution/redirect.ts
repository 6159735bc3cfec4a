import { ProtocolError } from '../errors.ts'
import { redactUrl } from '../internal/redact.ts'
import { refusalOf } from './origin.ts'
import type { HttpRequest, HttpResponse } from './transport.ts'

/** Where a response sends us, or undefined when it is no redirect. */
export function redirectTarget(request: HttpRequest, response: HttpResponse): URL | undefined {
  const { status, url } = response
  if (![301, 302, 303, 307, 308].includes(status)) return undefined
  const refuse = (reason: string): never => {
    response.discard()
    throw new ProtocolError(
      redactUrl(url),
      `answered ${request.method} with a redirect that is not followed: ${reason}`,
    )
  }
  if (request.redirects === 'refuse') return refuse('none is expected here')
  const location = response.headers.get('location')
  if (location === null || location === '' || !URL.canParse(location, url.href))
    return refuse('it names no valid location')
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    if (status !== 307 && status !== 308) return refuse(`status ${status} would change the method`)
    if (request.body !== undefined && !(request.body instanceof Uint8Array))
      return refuse('the body can be sent once only')
  }
  const target = new URL(location, url)
  target.hash = ''
  const reason = refusalOf(url, target)
  return reason === undefined ? target : refuse(`${redactUrl(target)}: ${reason}`)
}
