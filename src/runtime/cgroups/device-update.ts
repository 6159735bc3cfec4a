import { closeSync, openSync } from 'node:fs'
import type { LinuxDeviceCgroup } from '../../bundle/spec-resources.ts'
import { out } from '../../linux/call.ts'
import {
  attachDeviceProgram,
  BPF_F,
  detachDeviceProgram,
  loadDeviceProgram,
  openProgram,
  queryDevicePrograms,
} from '../../linux/calls/bpf.ts'
import { perform, performFor } from '../../linux/local.ts'
import { deviceProgram } from './device-program.ts'
import { resourcesPointer } from './setting.ts'

/** Programs that the kernel attaches to a cgroup at most (BPF_CGROUP_MAX_PROGS). */
const maxPrograms = 64

/** Puts a program for `rules` in the place of the one that a version 2 cgroup has; at no moment it has none. */
export function replaceDeviceProgram(directory: string, rules: readonly LinuxDeviceCgroup[]): void {
  const why = { step: 'set the device rules', pointer: `${resourcesPointer}/devices` }
  const cgroup = openSync(directory, 'r')
  const opened: number[] = [cgroup]
  try {
    const ids = out(maxPrograms * 4)
    const found = performFor(queryDevicePrograms(cgroup, ids, why)).bytes(ids)
    const present: number[] = []
    for (let at = 0; at < found.length && found.readUInt32LE(at) !== 0; at += 4) {
      const program = perform(openProgram(found.readUInt32LE(at), why))
      opened.push(program)
      present.push(program)
    }
    const program = perform(loadDeviceProgram(deviceProgram(rules), why))
    opened.push(program)
    const [only, ...others] = present
    if (only !== undefined && others.length === 0) {
      attach(cgroup, program, BPF_F.ALLOW_MULTI + BPF_F.REPLACE, only)
    } else {
      attach(cgroup, program, BPF_F.ALLOW_MULTI)
      for (const old of present) perform(detachDeviceProgram(cgroup, old, why))
    }
  } finally {
    for (const fd of opened) closeSync(fd)
  }

  function attach(to: number, program: number, flags: number, replace?: number): void {
    perform(attachDeviceProgram(to, program, { flags, replace }, why))
  }
}
