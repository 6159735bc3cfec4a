import { type Call, type CallOptions, call, type Out, struct } from '../call.ts'
import { ebpfInstructionSize } from '../ebpf.ts'

/** Commands of bpf(2) (include/uapi/linux/bpf.h). */
const command = { PROG_LOAD: 5, PROG_ATTACH: 8, PROG_DETACH: 9, PROG_GET_FD_BY_ID: 13, PROG_QUERY: 16 } as const

const BPF_PROG_TYPE_CGROUP_DEVICE = 15
const BPF_CGROUP_DEVICE = 6

/** How a program is attached to a cgroup. */
export const BPF_F = {
  /** Beside those of the cgroups above and below; all of them must allow. */
  ALLOW_MULTI: 2,
  /** In the place of another one. Linux 5.6. */
  REPLACE: 4,
} as const

/** bpf(2): loads a program that decides on the use of devices. @returns its descriptor, close-on-exec. */
export function loadDeviceProgram(program: Uint8Array, options?: CallOptions): Call {
  const count = program.length / ebpfInstructionSize
  const attributes = [BPF_PROG_TYPE_CGROUP_DEVICE + count * 2 ** 32, program, 'Apache-2.0', 0, 0, 0]
  return call('bpf', [command.PROG_LOAD, struct(attributes), attributes.length * 8], options)
}

/** bpf(2): makes a program count for all processes of the cgroup whose directory is open. */
export function attachDeviceProgram(
  cgroup: number,
  program: number,
  how: { readonly flags: number; readonly replace?: number | undefined },
  options?: CallOptions,
): Call {
  const attributes = [cgroup + program * 2 ** 32, BPF_CGROUP_DEVICE + how.flags * 2 ** 32, how.replace ?? 0]
  return call('bpf', [command.PROG_ATTACH, struct(attributes), attributes.length * 8], options)
}

/** bpf(2): takes a program away from a cgroup. */
export function detachDeviceProgram(cgroup: number, program: number, options?: CallOptions): Call {
  const attributes = [cgroup + program * 2 ** 32, BPF_CGROUP_DEVICE]
  return call('bpf', [command.PROG_DETACH, struct(attributes), attributes.length * 8], options)
}

/** bpf(2): the ids of the programs that are attached to a cgroup itself; 0 behind the last one. */
export function queryDevicePrograms(cgroup: number, ids: Out, options?: CallOptions): Call {
  const attributes = [cgroup + BPF_CGROUP_DEVICE * 2 ** 32, 0, ids, ids.size / 4]
  return call('bpf', [command.PROG_QUERY, struct(attributes), attributes.length * 8], options)
}

/** bpf(2): opens a program by its id. Close-on-exec. */
export function openProgram(id: number, options?: CallOptions): Call {
  return call('bpf', [command.PROG_GET_FD_BY_ID, struct([id, 0]), 16], options)
}
