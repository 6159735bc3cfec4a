/** Bytes for people: `12.3 MB`. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB']
  let [value, unit] = [bytes, 0]
  for (; value >= 999.95 && unit < units.length - 1; unit++) value /= 1000
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`
}

/** A line about one content. */
export function line(
  { descriptor: { digest, size } }: { readonly descriptor: { readonly digest: string; readonly size: number } },
  word: string,
): string {
  return `${digest.slice(0, 19)}  ${formatBytes(size).padStart(8)}  ${word}`
}
