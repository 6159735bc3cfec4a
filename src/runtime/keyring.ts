import type { Call, CallOptions } from '../linux/call.ts'
import { joinSessionKeyring, setKeyPermissions } from '../linux/calls/keys.ts'

/**
 * The kernel's default permissions of a session keyring (keyrings(7)), and that its owner finds it: so that
 * a process which enters the container later joins the same one by its name.
 */
const permissions = 0x3f1b_0000

/**
 * The calls that give a process the session keyring of its container, which the first one makes: keys of
 * the host must not be in its reach.
 */
export function keyringCalls(id: string): readonly Call[] {
  const why: CallOptions = { step: 'make a session keyring' }
  // A kernel may be built without keys.
  const keyring = joinSessionKeyring(`_ses.${id}`, { ...why, tolerate: 'ENOSYS' })
  return [keyring, setKeyPermissions(keyring, permissions, { ...why, tolerate: 'any' })]
}
