import { type Call, type CallOptions, call, type Out } from '../call.ts'

const KEYCTL = { JOIN_SESSION_KEYRING: 1, SETPERM: 5, DESCRIBE: 6 } as const

/** keyctl(2): a session keyring of that name for the calling process and its children. The result is its serial. */
export function joinSessionKeyring(name: string, options?: CallOptions): Call {
  return call('keyctl', [KEYCTL.JOIN_SESSION_KEYRING, name], options)
}

/** keyctl(2): the permissions of a key (keyrings(7)). */
export function setKeyPermissions(key: number | Call, permissions: number, options?: CallOptions): Call {
  return call('keyctl', [KEYCTL.SETPERM, key, permissions], options)
}

/** keyctl(2): type, owner, permissions and name of a key, with semicolons between. */
export function describeKey(key: number | Call, to: Out, options?: CallOptions): Call {
  return call('keyctl', [KEYCTL.DESCRIBE, key, to, to.size], options)
}
