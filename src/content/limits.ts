/**
 * How many bytes of a document are read into memory at most, by default. Real ones are far below:
 * the largest manifests in use have some 100 KiB.
 */
export const documentLimits: Readonly<Record<'manifest' | 'index' | 'config', number>> = {
  manifest: 4_194_304,
  index: 4_194_304,
  config: 8_388_608,
}
