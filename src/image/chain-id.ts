import { InvalidArgumentError } from '../errors.ts'
import { type Digest, digestOf } from './digest.ts'

/**
 * The ChainID of a stack of layers, from the DiffIDs bottom first (image-spec, config.md, "Layer ChainID").
 * @throws InvalidArgumentError for no layers: an empty stack has no ChainID.
 */
export function chainId(diffIds: readonly Digest[]): Digest {
  const last = chainIds(diffIds).at(-1)
  if (last === undefined) throw new InvalidArgumentError('an empty list of layers has no chain ID')
  return last
}

/** The ChainIDs of a stack's every prefix: the n-th names the result of applying layers 0 to n. */
export function chainIds(diffIds: readonly Digest[]): readonly Digest[] {
  const chain: Digest[] = []
  for (const diffId of diffIds) {
    const below = chain.at(-1)
    chain.push(below === undefined ? diffId : digestOf(new TextEncoder().encode(`${below} ${diffId}`)))
  }
  return chain
}
