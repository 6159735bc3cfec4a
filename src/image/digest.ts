/** A digest string, `algorithm:encoded` (image-spec, descriptor.md, "Digests"). */
export type Digest = `${string}:${string}`
