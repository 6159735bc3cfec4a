/**
 * The body of a PAX extended header: `length keyword=value\n`, where the length counts itself
 * (POSIX.1-2008, pax, "pax Extended Header"). Values are bytes. Sorted by keyword, so that the order
 * in which a file system lists attributes does not show.
 */
export function paxBody(records: ReadonlyMap<string, Buffer>): Buffer {
  const keyed = Array.from(records, ([keyword, value]) => [Buffer.from(keyword), value] as const)
  return Buffer.concat(keyed.sort(([a], [b]) => a.compare(b)).map(([keyword, value]) => record(keyword, value)))
}

function record(keyword: Buffer, value: Buffer): Buffer {
  // The blank, the equals sign and the newline.
  const rest = keyword.length + value.length + 3
  let length = rest + String(rest).length
  // Its own digits may make it one digit longer.
  if (rest + String(length).length !== length) length = rest + String(length).length
  return Buffer.concat([Buffer.from(`${length} `), keyword, Buffer.from('='), value, Buffer.from('\n')])
}
