/** Numbers of a list such as `0-3,7`, ascending; undefined for what is none or goes beyond `largest`. */
export function parseNumberList(text: string, largest: number): readonly number[] | undefined {
  const numbers = new Set<number>()
  for (const part of text.split(',')) {
    const [, first, last = first] = /^\s*(\d{1,9})(?:-(\d{1,9}))?\s*$/.exec(part) ?? []
    if (first === undefined) return undefined
    const [from, to] = [Number(first), Number(last)]
    if (from > to || to > largest) return undefined
    for (let number = from; number <= to; number++) numbers.add(number)
  }
  return [...numbers].sort((a, b) => a - b)
}

/** Largest number of a CPU that Linux can be built for (NR_CPUS). */
export const largestCpu = 8191

/** Largest number of a memory node that Linux can be built for (MAX_NUMNODES). */
export const largestNode = 1023
