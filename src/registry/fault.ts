import { OciError, type OciErrorOptions } from '../errors.ts'

/** Error codes of distribution-spec, "Error Codes", each with its usual status. */
const statuses = {
  BLOB_UNKNOWN: 404,
  BLOB_UPLOAD_INVALID: 400,
  BLOB_UPLOAD_UNKNOWN: 404,
  DIGEST_INVALID: 400,
  MANIFEST_BLOB_UNKNOWN: 400,
  MANIFEST_INVALID: 400,
  MANIFEST_UNKNOWN: 404,
  NAME_INVALID: 400,
  NAME_UNKNOWN: 404,
  SIZE_INVALID: 400,
  UNAUTHORIZED: 401,
  DENIED: 403,
  UNSUPPORTED: 405,
  TOOMANYREQUESTS: 429,
} as const

export type FaultCode = keyof typeof statuses

export interface FaultOptions extends OciErrorOptions {
  /** Status code of the response; default the usual one of the code. */
  readonly status?: number
  /** The `detail` of the error body: any JSON. */
  readonly detail?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

/** A request that can't be served, with the answer it gets. It does not leave this module. */
export class Fault extends OciError {
  readonly error: FaultCode
  readonly status: number
  readonly detail: unknown
  readonly headers: Readonly<Record<string, string>>

  constructor(error: FaultCode, message: string, options: FaultOptions = {}) {
    super('ERR_OCI_REGISTRY_FAULT', message, options)
    this.error = error
    this.status = options.status ?? statuses[error]
    this.detail = options.detail
    this.headers = options.headers ?? {}
  }
}

/** The response that tells a client of a fault (distribution-spec, "Error Codes"). */
export function faultResponse(fault: Fault): Response {
  const detail = fault.detail === undefined ? {} : { detail: fault.detail }
  return jsonResponse(
    { errors: [{ code: fault.error, message: fault.message, ...detail }] },
    fault.status,
    fault.headers,
  )
}

/** A response with a JSON body and its length. */
export function jsonResponse(
  value: unknown,
  status: number,
  headers: Readonly<Record<string, string>> = {},
  contentType = 'application/json',
): Response {
  const body = Buffer.from(JSON.stringify(value))
  return new Response(body, {
    status,
    headers: { ...headers, 'Content-Type': contentType, 'Content-Length': String(body.byteLength) },
  })
}
