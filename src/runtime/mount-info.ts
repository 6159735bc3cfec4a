import { readFileSync } from 'node:fs'
import { unescapePath } from './cgroups/hierarchies.ts'

/** A line of proc_pid_mountinfo(5). */
export interface MountLine {
  readonly id: string
  readonly device: string
  /** What of its file system is mounted. */
  readonly root: string
  readonly point: string
  /** Of the mount, not of its file system. */
  readonly options: ReadonlySet<string>
  readonly type: string
}

/** The mounts that the text of a mountinfo file lists. */
export function parseMountInfo(text: string): readonly MountLine[] {
  return text.split('\n').flatMap((line) => {
    const [before = '', after = ''] = line.split(' - ')
    const [id = '', , device = '', root, point, options] = before.split(' ')
    if (root === undefined || point === undefined) return []
    const [type = ''] = after.split(' ')
    return [
      { id, device, root: unescapePath(root), point: unescapePath(point), options: new Set(options?.split(',')), type },
    ]
  })
}

/** Id of the mount that a descriptor of a process is in (proc_pid_fdinfo(5)). */
export function mountIdOf(process: number | 'self', descriptor: number): string {
  return /^mnt_id:\s*(\d+)$/m.exec(readFileSync(`/proc/${process}/fdinfo/${descriptor}`, 'utf8'))?.[1] ?? ''
}
