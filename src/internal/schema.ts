import type { SpecIssue } from '../errors.ts'
import { quote } from './text.ts'

/** What a compiled JSON Schema reports of one fault (the shape of ajv's ErrorObject). */
export interface SchemaFault {
  readonly instancePath: string
  readonly keyword: string
  readonly params: Readonly<Record<string, unknown>>
  readonly message?: string
}

/** A JSON Schema compiled to a function by scripts/build-validators.ts. */
export interface SchemaValidator {
  (value: unknown): boolean
  /** Faults of the last call. */
  errors?: readonly SchemaFault[] | null
}

/** Faults that are reported of one document of an image; the rest would only repeat them. */
export const maxIssues = 20

/** The faults of a value against a compiled schema, at most `most`; empty when there are none. */
export function schemaIssues(
  validate: SchemaValidator,
  value: unknown,
  most: number = maxIssues,
): readonly SpecIssue[] {
  if (validate(value)) return []
  const faults = validate.errors ?? []
  // The function is shared by all callers: what it found must not outlive this call.
  validate.errors = null
  return faults.slice(0, most).map((fault) => ({ pointer: fault.instancePath, message: messageOf(fault) }))
}

function messageOf({ keyword, params, message = keyword }: SchemaFault): string {
  const [, allowed] = Object.entries(params).find(([name]) => name === 'allowedValue' || name === 'allowedValues') ?? []
  return allowed === undefined ? message : `must be ${list(allowed)}`
}

function list(allowed: unknown): string {
  const values: readonly unknown[] = Array.isArray(allowed) ? allowed : [allowed]
  return values.map((value) => (typeof value === 'string' ? quote(value) : String(value))).join(' or ')
}
