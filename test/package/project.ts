import { execFile } from 'node:child_process'
import { copyFile, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const execute = promisify(execFile)

/** Root of the repository. */
export const root: string = fileURLToPath(new URL('../..', import.meta.url))

/** Runs a program and gives what it wrote to stdout; rejects with all it wrote when it fails. */
export async function output(program: string, args: readonly string[], cwd: string): Promise<string> {
  try {
    return (await execute(program, args, { cwd, maxBuffer: 16 * 2 ** 20 })).stdout
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string }
    throw new Error(`${program} ${args.join(' ')} failed\n${stdout}${stderr}`)
  }
}

/** An empty project of a user, with the packed package installed. */
export interface Project {
  readonly directory: string
  /** Paths in the tarball, without `package/`. */
  readonly files: readonly string[]
  /** Writes a file of the project. */
  write(name: string, text: string): Promise<void>
  remove(): Promise<void>
}

/** Packs what was built, and installs the tarball from the outside, as a user would. */
export async function installPacked(): Promise<Project> {
  const directory = await mkdtemp(join(tmpdir(), 'oci-ts-package-'))
  const pack = ['pack', '--ignore-scripts', '--json', '--loglevel=error', '--pack-destination', directory]
  const [packed] = Object.values(JSON.parse(await output('npm', pack, root))) as [
    { filename: string; files: { path: string }[] },
  ]
  await writeFile(join(directory, 'package.json'), '{ "private": true }\n')
  const install = ['install', '--no-audit', '--no-fund', '--prefer-offline', '--loglevel=error']
  await output('npm', [...install, join(directory, packed.filename)], directory)
  const fixtures = join(root, 'test/package/fixtures')
  for (const name of await readdir(fixtures)) await copyFile(join(fixtures, name), join(directory, name))
  return {
    directory,
    files: packed.files.map((file) => file.path),
    write: (name, text) => writeFile(join(directory, name), text),
    remove: () => rm(directory, { recursive: true }),
  }
}
