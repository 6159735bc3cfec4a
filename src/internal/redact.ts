/**
 * A URL fit for a message: no user information, no fragment, and no query values, because upload
 * states and signed storage links carry secrets there. At most 500 characters.
 */
export function redactUrl(url: URL | string): string {
  let parsed: URL
  try {
    parsed = new URL(url)
  } catch {
    return '(malformed URL)'
  }
  const names = [...new Set(parsed.searchParams.keys())]
  const query = names.length === 0 ? '' : `?${names.map((name) => `${encodeURIComponent(name)}=…`).join('&')}`
  const text = `${parsed.protocol}//${parsed.host}${parsed.pathname}${query}`
  return text.length > 500 ? `${text.slice(0, 500)}…` : text
}

/** Text of a stranger's error with every URL in it redacted, control characters escaped, cut to 300 characters. */
export function redactText(text: string): string {
  const redacted = text.slice(0, 4096).replace(/\bhttps?:\/\/[^\s"'<>]+/gi, (url) => redactUrl(url))
  const quoted = JSON.stringify(redacted.length > 300 ? `${redacted.slice(0, 300)}…` : redacted)
  return quoted.slice(1, -1).replaceAll('\\"', '"')
}
