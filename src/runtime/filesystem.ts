import type { Call, CallOptions } from '../linux/call.ts'
import { close } from '../linux/calls/files.ts'
import { fsconfigCreate, fsconfigFlag, fsconfigString, fsmount, fsopen } from '../linux/calls/mounts.ts'

/** Longest value that fsconfig(2) takes, in bytes. */
const longestValue = 255

/** A new, detached instance of a filesystem. Parameters are `key=value` or flags. */
export function newFilesystem(
  type: string,
  parameters: readonly string[],
  attributes: number,
  why: CallOptions,
): { readonly calls: readonly Call[]; readonly tree: Call } {
  const context = fsopen(type, why)
  const configured = parameters.map((parameter) => {
    const at = parameter.indexOf('=')
    if (at < 0) return fsconfigFlag(context, parameter, why)
    return fsconfigString(context, parameter.slice(0, at), parameter.slice(at + 1), why)
  })
  const tree = fsmount(context, attributes, why)
  return { calls: [context, ...configured, fsconfigCreate(context, why), tree, close(context)], tree }
}

/** Whether fsconfig(2) takes these parameters; mount(2) takes a page of them. */
export function fitsFsconfig(parameters: readonly string[]): boolean {
  return parameters.every((parameter) => Buffer.byteLength(parameter.slice(parameter.indexOf('=') + 1)) <= longestValue)
}
