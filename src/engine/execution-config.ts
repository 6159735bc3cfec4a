import type { ExecutionConfig } from '../image/config.ts'
import type { Image } from './image.ts'
import type { RunOptions } from './run-options.ts'

/**
 * The config of a container, which `commit` gives to its image: that of the image with what was given to `run`, by Docker's
 * rules. Another entrypoint takes the image's command out of use; a volume without a name is one that the image wants.
 */
export function executionConfig({ config: { config = {} } }: Image, options: RunOptions): ExecutionConfig {
  const { entrypoint, command, env, user, workingDir, stopSignal, mounts = [] } = options
  const { Cmd, ...others } = config
  const args = command ?? (entrypoint === undefined ? Cmd : undefined)
  const anonymous = mounts.flatMap((mount) =>
    mount.type === 'volume' && mount.source === undefined ? [[mount.target, {}] as const] : [],
  )
  return {
    ...others,
    ...(entrypoint === undefined ? {} : { Entrypoint: entrypoint }),
    ...(args === undefined ? {} : { Cmd: args }),
    ...(env === undefined ? {} : { Env: withVariables(config.Env ?? [], env) }),
    ...(user === undefined ? {} : { User: user }),
    ...(workingDir === undefined ? {} : { WorkingDir: workingDir }),
    ...(stopSignal === undefined ? {} : { StopSignal: String(stopSignal) }),
    ...(anonymous.length === 0 ? {} : { Volumes: { ...config.Volumes, ...Object.fromEntries(anonymous) } }),
  }
}

/** A variable that is there keeps its place. */
function withVariables(env: readonly string[], over: NonNullable<RunOptions['env']>): readonly string[] {
  const variables = new Map(env.map((entry) => [nameOf(entry), entry]))
  for (const [name, value] of Object.entries(over)) {
    if (value === undefined || value === null) variables.delete(name)
    else variables.set(name, `${name}=${value}`)
  }
  return [...variables.values()]
}

function nameOf(entry: string): string {
  const [name = ''] = entry.split('=', 1)
  return name
}
