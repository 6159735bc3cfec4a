import { SpecError } from '../errors.ts'
import { isJsonObject } from '../internal/json.ts'
import { type SchemaValidator, schemaIssues } from '../internal/schema.ts'
import type { Features } from './features.ts'
import { processRules, type Rule, resourcesRules, specRules } from './rules.ts'
import type { Spec } from './spec.ts'
import type { Process } from './spec-process.ts'
import type { LinuxResources } from './spec-resources.ts'
import type { State } from './state.ts'
import * as schemas from './validators.generated.ts'

/** More than anybody corrects at once, and a bound for what a stranger sends. */
const maxFaults = 1000

/**
 * A value as a config.json, when it is one by runtime-spec 1.3. Unknown members and newer minor
 * versions are no faults; what is asked of the host (a namespace's path, a capability that can't be
 * granted) is not looked at. Members that are null count as absent, as they do for other runtimes.
 * @throws SpecError with all the faults (at most 1,000), each with its JSON Pointer
 */
export function validateSpec(value: unknown): Spec {
  return check<Spec>('config.json', value, schemas.validateConfig, specRules)
}

/** The same for the process document of exec. @throws SpecError */
export function validateProcess(value: unknown): Process {
  return check<Process>('process', value, schemas.validateProcess, processRules(''))
}

/** The same for the resources document of update. @throws SpecError */
export function validateResources(value: unknown): LinuxResources {
  return check<LinuxResources>('resources', value, schemas.validateResources, resourcesRules(''))
}

/** The same for a state.json. @throws SpecError */
export function validateState(value: unknown): State {
  return check<State>('state', value, schemas.validateState, [])
}

/** The same for the features of a runtime. @throws SpecError */
export function validateFeatures(value: unknown): Features {
  return check<Features>('features', value, schemas.validateFeatures, [])
}

function check<T>(document: string, value: unknown, schema: SchemaValidator, rules: readonly Rule<T>[]): T {
  const present = withoutNulls(value)
  const issues = [...schemaIssues(schema, withoutBigints(present), maxFaults)]
  const typed = issues.length === 0
  const told = new Set(issues.map((issue) => issue.pointer))
  for (const rule of isJsonObject(present) ? rules : []) {
    try {
      for (const issue of rule(present as T)) if (!told.has(issue.pointer)) issues.push(issue)
    } catch (error) {
      // A rule trusts the types; where the schema has told that they are wrong, it may stumble.
      if (typed) throw error
    }
  }
  if (issues.length > 0) throw new SpecError(document, issues.slice(0, maxFaults))
  return present as T
}

/** The value itself where nothing in it is null. */
function withoutNulls(value: unknown): unknown {
  return rewrite(value, (member) => (member === null ? undefined : member))
}

/** For the schema, which knows numbers only; bounds are compared as doubles. */
function withoutBigints(value: unknown): unknown {
  return rewrite(value, (member) => (typeof member === 'bigint' ? Number(member) : member))
}

/** Copies only what changes; a member that becomes undefined goes, an item of an array stays as it is. */
function rewrite(value: unknown, change: (value: unknown) => unknown): unknown {
  if (Array.isArray(value)) {
    const items = value.map((item: unknown) => (item === null ? item : rewrite(item, change)))
    return items.every((item, i) => item === value[i]) ? value : items
  }
  if (!isJsonObject(value)) return change(value)
  let copy: Record<string, unknown> | undefined
  for (const [name, member] of Object.entries(value)) {
    const next = rewrite(member, change)
    if (next === member) continue
    copy ??= { ...value }
    if (next === undefined) delete copy[name]
    else copy[name] = next
  }
  return copy ?? value
}
