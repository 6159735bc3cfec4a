/** Which thread a line is of; its name, which stands before, may contain anything. */
const thread = /-(\d+) +\[\d+\] /
const found = /: cap_capable: cred \S+, target_ns \S+, capable_ns \S+, cap (\d+), ret 0$/
const stack = /: <stack trace>$/
/**
 * Where the kernel asks whatever the program may do: of whatever takes memory, whether it may have the last of it; and in
 * an overlay's own work on its layers, with the rights of who has mounted it.
 */
const incidental = /^(?:.*vm_enough_memory|ovl_(?:open_realfile|path_open|can_decode_fh|copy_up))/
/** By these an overlay goes on to its layers. */
const below = /^(?:inode_permission|notify_change|lookup_|vfs_)/
/** Longest line that is kept while its end has not come. */
const maxLine = 4096

/** Reads what the kernel writes of capability:cap_capable. */
export class CapabilityEvents {
  private readonly numbers = new Set<number>()
  /** What was found last, by thread: where it was asked for may come behind it. */
  private readonly last = new Map<string, number>()
  /** The thread whose stack is being read, the innermost function first. */
  private asking: string | undefined
  private isBelow = false
  private rest = ''

  /** The capabilities that were found, by number. */
  get found(): ReadonlySet<number> {
    return new Set([...this.numbers, ...this.last.values()])
  }

  /** Takes in what comes next of the text. */
  read(text: string): void {
    const lines = `${this.rest}${text}`.split('\n')
    this.rest = lines.pop()?.slice(-maxLine) ?? ''
    for (const line of lines) this.readLine(line)
  }

  private readLine(line: string): void {
    if (line.startsWith(' => ')) {
      this.readFunction(line.slice(4))
      return
    }
    this.asking = undefined
    this.isBelow = false
    const pid = thread.exec(line)?.[1]
    if (pid === undefined) return
    if (stack.test(line)) this.asking = pid
    const number = found.exec(line)?.[1]
    if (number === undefined) return
    const before = this.last.get(pid)
    if (before !== undefined) this.numbers.add(before)
    // A thread that has ended says no more.
    if (this.last.size > 1024) this.settle()
    this.last.set(pid, Number(number))
  }

  private readFunction(name: string): void {
    if (this.asking === undefined) return
    if (incidental.test(name) || (this.isBelow && name.startsWith('ovl_'))) this.last.delete(this.asking)
    this.isBelow ||= below.test(name)
  }

  private settle(): void {
    for (const number of this.last.values()) this.numbers.add(number)
    this.last.clear()
  }
}
