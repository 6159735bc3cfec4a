import { type Mount, validateSpec } from '../../bundle/index.ts'
import { InvalidArgumentError } from '../../index.ts'
import { addMount, removeMount } from '../../runtime/index.ts'
import type { Arguments } from '../arguments.ts'
import type { Command, Context } from '../command.ts'
import { readDocument } from '../input.ts'

/** `oci-ts mounts`. */
export const mountsCommand: Command = {
  summary:
    'Adds mounts to a running container, or removes them: FILE has them as `mounts` of config.json; - to read it.',
  positionals: 'add|remove ID FILE',
  count: [3, 3],
  options: {},
  run,
}

async function run(args: Arguments, { stateRoot }: Context): Promise<number> {
  const [verb, id = '', file = ''] = args.positionals
  if (verb !== 'add' && verb !== 'remove') {
    throw new InvalidArgumentError(`mounts are added or removed, not ${JSON.stringify(verb)}`, { subject: verb ?? '' })
  }
  const done: Mount[] = []
  try {
    for (const mount of mountsOf(file)) {
      if (verb === 'add') await addMount(id, mount, { stateRoot })
      else await removeMount(id, mount.destination, { stateRoot })
      done.unshift(mount)
    }
  } catch (error) {
    // All or none; what was removed is not known well enough to be made again.
    if (verb === 'add') for (const { destination } of done) await removeMount(id, destination, { stateRoot })
    throw error
  }
  return 0
}

/** The mounts of a document: a list of them, or a config with one. */
function mountsOf(file: string): readonly Mount[] {
  const document = JSON.parse(readDocument(file)) as unknown
  const mounts = Array.isArray(document) ? document : (document as { readonly mounts?: unknown })?.mounts
  return validateSpec({ ociVersion: '1.0.0', root: { path: 'rootfs' }, mounts: mounts ?? [] }).mounts ?? []
}
