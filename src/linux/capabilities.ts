import { capabilityNames } from '../internal/capability-names.ts'

/** The kernel's capabilities by number (include/uapi/linux/capability.h). */
export { capabilityNames }

const numbers: ReadonlyMap<string, number> = new Map(capabilityNames.map((name, number) => [name, number]))

/** Number of a capability by its name `CAP_…`; undefined for one that is not known. */
export function capabilityNumber(name: string): number | undefined {
  return numbers.get(name)
}
