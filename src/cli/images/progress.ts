import type { Operation } from '../../index.ts'
import { formatBytes, line } from './text.ts'

/** What every operation tells of a step. */
export interface Step {
  readonly kind: string
  readonly phase: string
  readonly descriptor: { readonly digest: string; readonly size: number }
  readonly bytes: number
  readonly transferred: number
  readonly total: number
  /** Bytes a second. */
  readonly rate?: number
}

/** Where progress is shown: standard error, so that what a command prints can be read by a program. */
export interface Screen {
  write(text: string): unknown
  readonly isTTY?: boolean
  readonly columns?: number
  readonly rows?: number
}

/** Milliseconds between two pictures on a terminal, and between two lines about all of it in a log. */
const [frame, report] = [100, 5000]

/** Steps that are told with a line of their own, and what it says. */
const words: Readonly<Record<string, string>> = {
  done: 'done',
  skipped: 'is there',
  mounted: 'taken over',
  resumed: 'goes on',
  retry: 'tries again',
}

/**
 * Waits for an operation and shows how far it is: on a terminal with a bar for each blob under way, in a
 * log with a line for each that is done and one every five seconds.
 */
export async function watch<Result, Progress extends Step>(
  operation: Operation<Result, Progress>,
  screen: Screen | undefined,
): Promise<Result> {
  if (screen === undefined) return operation
  const view = new View(screen)
  try {
    for await (const step of operation) view.show(step)
    return await operation
  } finally {
    view.end()
  }
}

class View {
  readonly #screen: Screen
  readonly #isTerminal: boolean
  /** The latest step of each blob under way. */
  readonly #active: Map<string, Step> = new Map()
  #last: Step | undefined
  #drawn = 0
  #time = performance.now()

  constructor(screen: Screen) {
    this.#screen = screen
    this.#isTerminal = screen.isTTY === true
  }

  show(step: Step): void {
    this.#last = step
    const { digest } = step.descriptor
    const word = words[step.kind]
    const isOver = ['done', 'skipped', 'mounted'].includes(step.kind)
    if (isOver) this.#active.delete(digest)
    else if (step.kind !== 'found') this.#active.set(digest, step)
    if (word !== undefined) this.#print(line(step, step.phase === 'unpack' ? `unpacked, ${word}` : word))
    const now = performance.now()
    if (now - this.#time < (this.#isTerminal ? frame : report)) return
    this.#time = now
    if (this.#isTerminal) this.#draw()
    else this.#print(total(step))
  }

  end(): void {
    if (this.#isTerminal) this.#clear()
    if (this.#last !== undefined) this.#print(total(this.#last))
  }

  /** A line that stays, above the bars. */
  #print(text: string): void {
    this.#clear()
    this.#screen.write(`${text}\n`)
  }

  #clear(): void {
    if (this.#drawn > 0) this.#screen.write(`\x1b[${this.#drawn}A\x1b[J`)
    this.#drawn = 0
  }

  #draw(): void {
    const { columns = 80, rows = 24 } = this.#screen
    const bars = [...this.#active.values()].slice(0, Math.max(1, rows - 3)).map((step) => bar(step, columns - 1))
    const lines = [...bars, ...(this.#last === undefined ? [] : [total(this.#last)])]
    this.#clear()
    this.#screen.write(lines.map((text) => `${text.slice(0, columns - 1)}\n`).join(''))
    this.#drawn = lines.length
  }
}

/** `sha256:0123456789ab [=====>    ]  45%`, in so many columns. */
function bar({ descriptor: { digest, size }, bytes }: Step, columns: number): string {
  const share = size === 0 ? 1 : Math.min(1, bytes / size)
  const width = Math.max(4, Math.min(40, columns - 34))
  const filled = Math.floor(share * width)
  const drawn = `${'='.repeat(Math.max(0, filled - 1))}${filled > 0 ? '>' : ''}`.padEnd(width)
  return `${digest.slice(0, 19)} [${drawn}] ${String(Math.floor(share * 100)).padStart(3)}%`
}

function total({ transferred, total: all, rate = 0, phase }: Step): string {
  const speed = rate > 0 ? `, ${formatBytes(rate)}/s` : ''
  return `${phase === 'unpack' ? 'unpacked ' : ''}${formatBytes(transferred)} of ${formatBytes(all)}${speed}`
}
