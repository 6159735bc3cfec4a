/** Media types of image-spec (media-types.md) and their Docker counterparts. */
export const mediaType = {
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
  ociForeignLayer: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
  ociForeignLayerGzip: 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip',
  ociForeignLayerZstd: 'application/vnd.oci.image.layer.nondistributable.v1.tar+zstd',
  ociLayoutHeader: 'application/vnd.oci.layout.header.v1+json',
  emptyJson: 'application/vnd.oci.empty.v1+json',
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar',
  dockerLayerGzip: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerLayerZstd: 'application/vnd.docker.image.rootfs.diff.tar.zstd',
  dockerForeignLayer: 'application/vnd.docker.image.rootfs.foreign.diff.tar',
  dockerForeignLayerGzip: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
  /** Docker's first manifest format: recognised so that it can be refused by name. */
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+json',
  dockerSchema1Signed: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
} as const

const indexTypes: ReadonlySet<string> = new Set([mediaType.ociIndex, mediaType.dockerIndex])
const manifestTypes: ReadonlySet<string> = new Set([mediaType.ociManifest, mediaType.dockerManifest])
const configTypes: ReadonlySet<string> = new Set([mediaType.ociConfig, mediaType.dockerConfig])
const schema1Types: ReadonlySet<string> = new Set([mediaType.dockerSchema1, mediaType.dockerSchema1Signed])
const foreignLayerTypes: ReadonlySet<string> = new Set([
  mediaType.ociForeignLayer,
  mediaType.ociForeignLayerGzip,
  mediaType.ociForeignLayerZstd,
  mediaType.dockerForeignLayer,
  mediaType.dockerForeignLayerGzip,
])
const layerTypes: ReadonlySet<string> = new Set([
  mediaType.ociLayer,
  mediaType.ociLayerGzip,
  mediaType.ociLayerZstd,
  mediaType.dockerLayer,
  mediaType.dockerLayerGzip,
  mediaType.dockerLayerZstd,
  ...foreignLayerTypes,
])

/** Whether the type is an image index or a Docker manifest list. */
export function isIndexType(type: string): boolean {
  return indexTypes.has(type)
}

/** Whether the type is an image manifest, OCI or Docker schema 2. */
export function isManifestType(type: string): boolean {
  return manifestTypes.has(type)
}

/** Whether the type is Docker's retired schema 1. */
export function isSchema1Type(type: string): boolean {
  return schema1Types.has(type)
}

/** Whether the type is an image config, OCI or Docker. */
export function isConfigType(type: string): boolean {
  return configTypes.has(type)
}

/** Whether the type is a filesystem layer, of any compression, foreign ones included. */
export function isLayerType(type: string): boolean {
  return layerTypes.has(type)
}

/** Whether the type is a layer that registries do not hand on (image-spec, layer.md, "Non-Distributable Layers"). */
export function isForeignLayerType(type: string): boolean {
  return foreignLayerTypes.has(type)
}

/** A media type as a header gives it, without its parameters and in lower case: what types are compared by. */
export function mediaTypeEssence(header: string): string {
  const end = header.indexOf(';')
  return (end < 0 ? header : header.slice(0, end)).trim().toLowerCase()
}
