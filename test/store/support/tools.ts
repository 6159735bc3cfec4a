import { spawnSync } from 'node:child_process'

/** Whether all these programs can be started here. */
export function hasTools(...names: readonly string[]): boolean {
  return names.every((name) => spawnSync('sh', ['-c', `command -v ${name}`]).status === 0)
}
