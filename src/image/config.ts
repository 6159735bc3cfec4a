import { isJsonObject } from '../internal/json.ts'
import type { Digest } from './digest.ts'
import { mediaType } from './media-type.ts'
import { assertValid, dropNulls, type Parsed, parseDocument } from './parsed.ts'
import type { Platform } from './platform.ts'
import { validateConfig } from './validators.generated.ts'

/** How a container of the image is run by default (image-spec, config.md, "config"). */
export interface ExecutionConfig {
  /** `user`, `uid`, `user:group`, … by name or number. */
  readonly User?: string
  /** `80/tcp`, `53/udp` or `80`, each with an empty object. */
  readonly ExposedPorts?: Readonly<Record<string, unknown>>
  /** `NAME=value`. */
  readonly Env?: readonly string[]
  readonly Entrypoint?: readonly string[]
  readonly Cmd?: readonly string[]
  /** Paths, each with an empty object. */
  readonly Volumes?: Readonly<Record<string, unknown>>
  readonly WorkingDir?: string
  readonly Labels?: Readonly<Record<string, string>>
  /** `SIGTERM`, `SIGRTMIN+3`, or a number. */
  readonly StopSignal?: string
  readonly ArgsEscaped?: boolean
  /** Docker's. */
  readonly Healthcheck?: Healthcheck
  /** Docker's: shell for commands in shell form. */
  readonly Shell?: readonly string[]
  /** Docker's: Dockerfile instructions that run when another image builds on this one. */
  readonly OnBuild?: readonly string[]
}

/** Docker's health check. Durations in nanoseconds; 0 or absent is Docker's default. */
export interface Healthcheck {
  /** `['NONE']`, `['CMD', …]`, `['CMD-SHELL', command]`; empty to inherit. */
  readonly Test?: readonly string[]
  readonly Interval?: number
  readonly Timeout?: number
  readonly StartPeriod?: number
  readonly StartInterval?: number
  readonly Retries?: number
}

/** How a layer came to be, or a step that made none. */
export interface HistoryEntry {
  /** RFC 3339. */
  readonly created?: string
  readonly author?: string
  readonly created_by?: string
  readonly comment?: string
  /** Whether the step made no layer. */
  readonly empty_layer?: boolean
}

/** An image config: image-spec (config.md) or Docker's. */
export interface ImageConfig extends Platform {
  /** RFC 3339. */
  readonly created?: string
  readonly author?: string
  readonly config?: ExecutionConfig
  readonly rootfs: {
    readonly type: 'layers'
    /** Digests of the uncompressed layers, bottom first; at most 10,000. */
    readonly diff_ids: readonly Digest[]
  }
  readonly history?: readonly HistoryEntry[]
}

/**
 * Parses an image config; `type` is its descriptor's media type. Unknown members are no faults.
 * @throws SpecError with every fault: no JSON, duplicate names, what the schema demands.
 */
export function parseImageConfig(raw: Uint8Array, type: string = mediaType.ociConfig): Parsed<ImageConfig> {
  const document = parseDocument(raw, 'image config')
  const { config, rootfs, history } = document.members
  dropNulls(config)
  if (isJsonObject(config)) dropNulls(config.Healthcheck)
  dropNulls(rootfs, ['diff_ids'])
  if (Array.isArray(history)) for (const entry of history) dropNulls(entry)
  assertValid(document, validateConfig)
  // The schema has just said so.
  return { raw, value: document.members as unknown as ImageConfig, mediaType: type }
}
