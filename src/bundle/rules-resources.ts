import type { SpecIssue } from '../errors.ts'
import { pointerToken } from '../internal/json.ts'
import type { Rule } from './rules.ts'
import type { Int64 } from './spec.ts'
import type { LinuxResources } from './spec-resources.ts'

/** Rules of a resources document that stands at a JSON Pointer. */
export function resourcesRules(at: string): readonly Rule<LinuxResources>[] {
  return [
    (resources) => memory(resources, `${at}/memory`),
    (resources) => cpu(resources, `${at}/cpu`),
    (resources) => blockIo(resources, `${at}/blockIO`),
    (resources) => named(resources, at),
  ]
}

function isLimit(value: Int64 | undefined): value is Int64 {
  return value !== undefined && value > 0
}

function* memory({ memory: value }: LinuxResources, at: string): Iterable<SpecIssue> {
  if (value === undefined) return
  if (isLimit(value.swap) && isLimit(value.limit) && value.swap < value.limit) {
    yield { pointer: `${at}/swap`, message: 'must not be below limit: it is memory and swap together' }
  }
  if (value.swappiness !== undefined && value.swappiness > 100) {
    yield { pointer: `${at}/swappiness`, message: 'must be between 0 and 100' }
  }
}

function* cpu({ cpu: value }: LinuxResources, at: string): Iterable<SpecIssue> {
  if (value === undefined) return
  if (isLimit(value.quota) && value.burst !== undefined && value.burst > value.quota) {
    yield { pointer: `${at}/burst`, message: 'must not be above quota' }
  }
}

function* blockIo({ blockIO: value }: LinuxResources, at: string): Iterable<SpecIssue> {
  for (const [i, device] of (value?.weightDevice ?? []).entries()) {
    if (device.weight === undefined && device.leafWeight === undefined) {
      yield { pointer: `${at}/weightDevice/${i}`, message: 'must have weight or leafWeight' }
    }
  }
}

function* named({ rdma, unified }: LinuxResources, at: string): Iterable<SpecIssue> {
  for (const [device, limits] of Object.entries(rdma ?? {})) {
    if (limits.hcaHandles === undefined && limits.hcaObjects === undefined) {
      yield { pointer: `${at}/rdma${pointerToken(device)}`, message: 'must have hcaHandles or hcaObjects' }
    }
  }
  for (const file of Object.keys(unified ?? {})) {
    if (file.includes('/') || !/^[^.\s]+\.[^\s]+$/.test(file)) {
      yield { pointer: `${at}/unified${pointerToken(file)}`, message: 'is no name of a cgroup file' }
    }
  }
}
