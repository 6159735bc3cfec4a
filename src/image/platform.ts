/** A platform as an index names it (image-spec, image-index.md). */
export interface Platform {
  /** CPU architecture, a GOARCH value: `amd64`, `arm64`, … */
  readonly architecture: string
  /** Operating system, a GOOS value. */
  readonly os: string
  readonly 'os.version'?: string
  readonly 'os.features'?: readonly string[]
  /** CPU variant: `v8`, `v7`, `v3`, … */
  readonly variant?: string
}
