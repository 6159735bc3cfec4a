/** A figure that can be compared with others of its unit. */
export interface Figure {
  readonly name: string
  readonly value: number
}

/** One row of the table: ours against a peer, or alone. */
export interface Row {
  readonly what: string
  readonly unit: 'ms' | 'ms CPU' | 'KB' | 'a second' | ''
  readonly ours: number
  readonly peer?: Figure | undefined
  /** What is asked for: of ours divided by the peer's, or of ours alone where there is no peer. */
  readonly target?: Target | undefined
}

export interface Target {
  readonly at: 'most' | 'least'
  readonly value: number
}

/** What a part of the bench has found. */
export interface Part {
  readonly title: string
  readonly rows: readonly Row[]
  /** What must be known to read the rows, and what was skipped and why. */
  readonly notes: readonly string[]
}

export const atMost = (value: number): Target => ({ at: 'most', value })
export const atLeast = (value: number): Target => ({ at: 'least', value })

/** Whether a row is as it should be; undefined when nothing is asked for. */
export function verdict({ ours, peer, target }: Row): boolean | undefined {
  if (target === undefined) return undefined
  const value = peer === undefined ? ours : ours / peer.value
  return target.at === 'most' ? value <= target.value : value >= target.value
}

/** The part as text. */
export function format({ title, rows, notes }: Part): string {
  const lines = rows.map((row) => {
    const { what, unit, ours, peer, target } = row
    const met = verdict(row)
    return [
      what,
      `${round(ours)} ${unit}`,
      peer === undefined ? '' : `${peer.name} ${round(peer.value)}`,
      peer === undefined ? '' : (ours / peer.value).toFixed(2),
      target === undefined ? '' : `${target.at === 'most' ? '<=' : '>='} ${target.value}`,
      met === undefined ? '' : met ? 'ok' : 'MISSED',
    ]
  })
  const cells = [['', 'oci-ts', 'peer', 'ratio', 'target', ''], ...lines]
  const widths = (cells[0] ?? []).map((_, column) => Math.max(...cells.map((line) => (line[column] ?? '').length)))
  const table = cells.map((line) =>
    line
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ')
      .trimEnd(),
  )
  return ['', title, ...table.map((line) => `  ${line}`), ...notes.map((note) => `  ${note}`)].join('\n')
}

function round(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toFixed(value >= 10 ? 1 : 2)
}
