/** Untrusted text for a message: quoted, control characters escaped, cut to 200 characters. */
export function quote(text: string): string {
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text)
}

/** A list for a message: the first 20 of the parts, and how many more there are. */
export function firstOf(parts: readonly string[]): string {
  const told = parts.slice(0, 20)
  return (parts.length > told.length ? [...told, `and ${parts.length - told.length} more`] : told).join('; ')
}
