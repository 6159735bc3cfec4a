import { InvalidArgumentError } from '../errors.ts'
import { capabilityNames } from '../internal/capability-names.ts'
import { quote } from '../internal/text.ts'

/** What Docker grants a container that asks for nothing else. */
export const defaultCapabilities: readonly string[] = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_FSETID',
  'CAP_FOWNER',
  'CAP_MKNOD',
  'CAP_NET_RAW',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_NET_BIND_SERVICE',
  'CAP_SYS_CHROOT',
  'CAP_KILL',
  'CAP_AUDIT_WRITE',
]

/**
 * The default capabilities with some added and some dropped, as Docker reads its options: names in any
 * case, with or without `CAP_`, and `ALL`. `ALL` added: everything but what is dropped; `ALL` dropped:
 * only what is added.
 * @throws InvalidArgumentError for a name that is no capability
 */
export function grantedCapabilities(add: readonly string[] = [], drop: readonly string[] = []): readonly string[] {
  const added = add.map((name) => canonicalName(name, 'capabilities.add'))
  const dropped = drop.map((name) => canonicalName(name, 'capabilities.drop'))
  if (added.includes(all)) return capabilityNames.filter((name) => !dropped.includes(name))
  const kept = dropped.includes(all) ? [] : defaultCapabilities.filter((name) => !dropped.includes(name))
  return [...new Set([...kept, ...added])]
}

const all = 'ALL'

function canonicalName(name: string, option: string): string {
  const upper = name.toUpperCase()
  if (upper === all) return all
  const canonical = upper.startsWith('CAP_') ? upper : `CAP_${upper}`
  if (capabilityNames.includes(canonical)) return canonical
  throw new InvalidArgumentError(`${option} has ${quote(name)}, which is no capability`, { subject: option })
}
