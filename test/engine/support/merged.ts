import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync } from 'node:fs'
import { join } from 'node:path'
import type { Image } from '../../../src/index.ts'
import { type TreeEntry, tree } from '../../layer/support/tree.ts'
import type { Sandbox } from './sandbox.ts'

/** The files of an image, as overlayfs shows them. */
export async function filesOf(sandbox: Sandbox, { manifest, config }: Image): Promise<Record<string, TreeEntry>> {
  const { layers } = await (await sandbox.engine.store()).unpack(manifest, config)
  const place = mkdtempSync(join(sandbox.directory, 'merged-'))
  for (const name of ['merged', 'empty']) mkdirSync(join(place, name))
  const script = 'mount -t overlay overlay -o ro,lowerdir="$1" "$2/merged" && cp -a "$2/merged" "$2/copy"'
  execFileSync('unshare', ['-m', 'sh', '-ec', script, 'sh', [...layers, join(place, 'empty')].join(':'), place])
  return tree(join(place, 'copy'))
}
