/**
 * How many bytes of a document are read into memory at most, by default. Real ones are far below:
 * the largest manifests in use have some 100 KiB.
 */
export const documentLimits = {
  manifest: 4 * 2 ** 20,
  index: 4 * 2 ** 20,
  config: 8 * 2 ** 20,
} as const
