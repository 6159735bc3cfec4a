import { lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { dirname, join } from 'node:path'

const directoryMode = 0o040755
const symlinkMode = 0o120777
const magic = '070701'

/** An archive as the kernel unpacks it into its first root (Documentation/driver-api/early-userspace/buffer-format.rst). */
export class Cpio {
  private readonly parts: Buffer[] = []
  private readonly known = new Set<string>(['.'])
  private inode = 1

  directory(path: string, mode: number = directoryMode): void {
    if (this.known.has(path)) return
    this.parents(path)
    this.entry(path, mode, Buffer.alloc(0))
  }

  file(path: string, content: string | Buffer, mode = 0o755): void {
    this.parents(path)
    this.entry(path, 0o100000 | mode, Buffer.from(content))
  }

  symlink(path: string, target: string): void {
    this.parents(path)
    this.entry(path, symlinkMode, Buffer.from(target))
  }

  /** A file or directory of this machine, with all below it. */
  copy(from: string, path: string): void {
    const stat = lstatSync(from)
    if (stat.isSymbolicLink()) this.symlink(path, readlinkSync(from))
    else if (stat.isFile()) this.file(path, readFileSync(from), stat.mode & 0o7777)
    else if (stat.isDirectory()) {
      this.directory(path)
      for (const name of readdirSync(from)) this.copy(join(from, name), join(path, name))
    }
  }

  end(): Buffer {
    this.entry('TRAILER!!!', 0, Buffer.alloc(0))
    return Buffer.concat(this.parts)
  }

  private parents(path: string): void {
    const parent = dirname(path)
    if (!this.known.has(parent)) this.directory(parent)
  }

  private entry(path: string, mode: number, content: Buffer): void {
    if (this.known.has(path)) return
    this.known.add(path)
    const fields = [this.inode++, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, Buffer.byteLength(path) + 1, 0]
    const header = magic + fields.map((field) => field.toString(16).padStart(8, '0')).join('')
    this.parts.push(padded(Buffer.from(`${header}${path}\0`)), padded(content))
  }
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % 4
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(4 - rest)])
}
