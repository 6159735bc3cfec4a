/** Annotation keys that are read or written here (image-spec, annotations.md, and containerd's name). */
export const annotation = {
  created: 'org.opencontainers.image.created',
  /** The tag of an entry in an image layout's `index.json`. */
  refName: 'org.opencontainers.image.ref.name',
  baseImageName: 'org.opencontainers.image.base.name',
  baseImageDigest: 'org.opencontainers.image.base.digest',
  /** The full reference of an entry in an image layout's `index.json`, as containerd writes it. */
  containerdImageName: 'io.containerd.image.name',
} as const
