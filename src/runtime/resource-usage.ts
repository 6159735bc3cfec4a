/** What a process and its waited-for children used (getrusage(2)). */
export interface ResourceUsage {
  /** Processor time in milliseconds: in the program, … */
  readonly userTime: number
  /** … and in the kernel for it. */
  readonly systemTime: number
  /** Most memory that was resident at a time, in bytes. */
  readonly maxResident: number
}

/** Reads a struct rusage. */
export function resourceUsage(rusage: Buffer): ResourceUsage {
  const milliseconds = (at: number): number =>
    Number(rusage.readBigInt64LE(at)) * 1000 + Number(rusage.readBigInt64LE(at + 8)) / 1000
  return {
    userTime: milliseconds(0),
    systemTime: milliseconds(16),
    maxResident: Number(rusage.readBigInt64LE(32)) * 1024,
  }
}
