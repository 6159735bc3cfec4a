import type { Descriptor } from '../image/descriptor.ts'
import type { Digest } from '../image/digest.ts'

/** What every finding tells. */
interface FindingBase {
  /** What is wrong, as one sentence. */
  readonly message: string
  /** Names of the images that need it; the digest of one that has no name. */
  readonly images: readonly string[]
  /** Ids of the containers that need it. */
  readonly containers: readonly string[]
}

/** `index.json`, which has the names of all images, can't be read. */
export interface IndexFinding extends FindingBase {
  readonly kind: 'index-damaged'
  /** Of the file. */
  readonly path: string
}

/** A blob is not what its digest says, or is not there though a manifest needs it. */
export interface BlobFinding extends FindingBase {
  readonly kind: 'blob-damaged' | 'blob-missing'
  readonly digest: Digest
  /** As what needs it describes it; undefined when nothing does. */
  readonly descriptor: Descriptor | undefined
}

/** A manifest or config is what its digest says, but no document of its kind. It was made so. */
export interface DocumentFinding extends FindingBase {
  readonly kind: 'document-invalid'
  readonly digest: Digest
}

/** An unpacked layer is not what its blob says, or is not there though a container needs it. */
export interface LayerFinding extends FindingBase {
  readonly kind: 'layer-damaged' | 'layer-missing'
  readonly chainId: Digest
  /** Where it differs, at most ten paths; none when the layer as a whole can't be used. */
  readonly paths: readonly string[]
}

/** The writable layer of a container is not complete. */
export interface ContainerFinding extends FindingBase {
  readonly kind: 'container-damaged'
  readonly id: string
}

/** Something that is wrong with a store. */
export type Finding = IndexFinding | BlobFinding | DocumentFinding | LayerFinding | ContainerFinding

/** What a check has found. */
export interface CheckReport {
  /** Nothing for a store in order. */
  readonly findings: readonly Finding[]
  /** Blobs that were looked at, and their bytes. */
  readonly blobs: { readonly count: number; readonly size: number }
  readonly layers: {
    readonly count: number
    /** ChainIDs of those that there is nothing to compare with: the blob has been removed, or is damaged itself. */
    readonly unverified: readonly Digest[]
  }
}
