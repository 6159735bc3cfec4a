import { homedir } from 'node:os'
import { isAbsolute, join, resolve } from 'node:path'
import { InvalidArgumentError } from '../errors.ts'
import { type Digest, digestAlgorithm, digestEncoded } from '../image/digest.ts'

/** Where the parts of a store lie. All of it belongs to one user and has mode 0700. */
export interface StorePaths {
  readonly root: string
  /** An OCI image layout with all blobs and references. */
  readonly content: string
  /** Unpacked layers, one directory a ChainID: `sha256/<hex>/{layer.json,diff/}`. */
  readonly layers: string
  /** Layers that were damaged and have been replaced: containers may run on them. `<ChainID>.<random>/`. */
  readonly retired: string
  /** Writable layers of containers: `<id>/{writable.json,upper/,work/}`. */
  readonly containers: string
  /** Volumes: `<name>/{volume.json,data/}`. */
  readonly volumes: string
  /** What is being made or removed: `<name>/` beside a lock `<name>.lock`. */
  readonly temporary: string
  /** What work in progress needs: one file a lease, locked while its process lives. */
  readonly leases: string
  readonly locks: string
}

/**
 * Where a store is when nobody says: `$OCI_TS_ROOT`, else `/var/lib/oci-ts` for root and
 * `$XDG_DATA_HOME/oci-ts` (`~/.local/share/oci-ts`) for anybody else.
 */
export function defaultRoot(): string {
  const { OCI_TS_ROOT: set, XDG_DATA_HOME: data } = process.env
  if (set !== undefined && set !== '') return resolve(set)
  if (process.geteuid?.() === 0) return '/var/lib/oci-ts'
  // A relative value is to be ignored, says the specification of those directories.
  const base = data !== undefined && isAbsolute(data) ? data : join(homedir(), '.local', 'share')
  return join(base, 'oci-ts')
}

/** @throws InvalidArgumentError when the root holds a NUL byte. */
export function storePaths(root: string): StorePaths {
  if (typeof root !== 'string' || root === '' || root.includes('\0'))
    throw new InvalidArgumentError('the root of a store must be a path')
  const at = resolve(root)
  return {
    root: at,
    content: join(at, 'content'),
    layers: join(at, 'layers'),
    retired: join(at, 'retired'),
    containers: join(at, 'containers'),
    volumes: join(at, 'volumes'),
    temporary: join(at, 'tmp'),
    leases: join(at, 'leases'),
    locks: join(at, 'locks'),
  }
}

/** Directory of an unpacked layer, in {@link StorePaths.layers}. */
export function layerPath(paths: StorePaths, chainId: Digest): string {
  return join(paths.layers, digestAlgorithm(chainId), digestEncoded(chainId))
}
