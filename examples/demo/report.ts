const isTerminal = process.stdout.isTTY === true
const hasColor = isTerminal && process.env.NO_COLOR === undefined
const paint = (code: number, text: string): string => (hasColor ? `\x1b[${code}m${text}\x1b[0m` : text)

export const bold = (text: string): string => paint(1, text)
export const dim = (text: string): string => paint(2, text)
export const green = (text: string): string => paint(32, text)
export const red = (text: string): string => paint(31, text)

/** Where the times begin. */
const width = 52

/** A line of the report: what was done, what came of it, how long it took. */
export function line(what: string, result: string, milliseconds?: number): void {
  const time = milliseconds === undefined ? '' : `${milliseconds.toFixed(milliseconds < 10 ? 1 : 0)} ms`.padStart(8)
  const gap = time === '' ? '' : ' '.repeat(Math.max(1, width - result.length))
  erase()
  console.log(`  ${green(what.padEnd(10))} ${result}${gap}${dim(time)}`)
}

/** A line of what the container saw. */
export function detail(name: string, value: string): void {
  console.log(`    ${dim(name.padEnd(14))} ${value}`)
}

/** Shows how far something is, in a terminal; the next line takes its place. */
export function progress(what: string, done: number, total: number): void {
  if (!isTerminal || total === 0) return
  const filled = Math.round((done / total) * 30)
  process.stdout.write(`\r  ${green(what.padEnd(10))} ${'█'.repeat(filled)}${dim('░'.repeat(30 - filled))}`)
}

function erase(): void {
  if (isTerminal) process.stdout.write('\r\x1b[K')
}

/** `3.1 MB` */
export function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`
}
