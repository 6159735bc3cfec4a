import { InvalidArgumentError } from '../../errors.ts'

/** How a checkpoint and a restore treat what a container has outside of itself. Both must be given the same. */
export interface CriuOptions {
  /** Directory of the images: the checkpoint. */
  readonly imagePath: string
  /** Directory of CRIU's logs. Default that of the images. */
  readonly workPath?: string | undefined
  /** Whether open TCP connections are kept. Default false: with one, it fails. */
  readonly tcpEstablished?: boolean | undefined
  /** Whether Unix sockets to processes outside may be cut. Default false: with one, it fails. */
  readonly externalUnixSockets?: boolean | undefined
  /** Whether it may have a session, or a terminal, of somebody outside. Default false. */
  readonly shellJob?: boolean | undefined
  /** Whether locks of files are kept. Default false: with one, it fails. */
  readonly fileLocks?: boolean | undefined
  /** How cgroups are kept: `soft` restores what it finds missing; see criu(8), `--manage-cgroups`. Default `soft`. */
  readonly manageCgroups?: 'soft' | 'full' | 'strict' | 'ignore' | undefined
  /** Namespaces of which nothing is kept: `network`, for those whose network somebody else sets up again. Default none. */
  readonly emptyNamespaces?: readonly string[] | undefined
  /** Whether what an earlier checkpoint has of the memory is removed there, or here when it has been read. Default false. */
  readonly autoDedup?: boolean | undefined
  /** Whether memory is served, or fetched, when it is asked for: by the page server of CRIU. Default false. */
  readonly lazyPages?: boolean | undefined
  /** Descriptor of this process that CRIU writes a zero byte to when it is ready to serve pages. */
  readonly statusFd?: number | undefined
  /** Path of CRIU's program. Default: where PATH has `criu`. */
  readonly criu?: string | undefined
  /** Aborting rejects with `signal.reason`; what CRIU has begun it ends. */
  readonly signal?: AbortSignal | undefined
}

/** Where the terminal of a container is bound. */
export const consolePoint = '/dev/console'

/** Names under which namespaces are known that the container has joined. */
export const namespaceKeys: Readonly<Record<string, string>> = { network: 'extRootNetNS', pid: 'extRootPidNS' }

/** The options of CRIU that `dump` and `restore` have in common. */
export function commonArguments(options: CriuOptions, log: string): readonly string[] {
  const { manageCgroups = 'soft', emptyNamespaces = [] } = options
  const unknown = emptyNamespaces.find((name) => name !== 'network')
  if (unknown !== undefined) {
    throw new InvalidArgumentError(`only the network namespace can be left empty, not ${JSON.stringify(unknown)}`, {
      subject: unknown,
    })
  }
  return [
    ...['--images-dir', options.imagePath, '--work-dir', options.workPath ?? options.imagePath],
    ...['--log-file', log, '-v4', `--manage-cgroups=${manageCgroups}`],
    ...(options.tcpEstablished === true ? ['--tcp-established'] : []),
    ...(options.externalUnixSockets === true ? ['--ext-unix-sk'] : []),
    ...(options.shellJob === true ? ['--shell-job'] : []),
    ...(options.fileLocks === true ? ['--file-locks'] : []),
    ...(options.autoDedup === true ? ['--auto-dedup'] : []),
    ...emptyNamespaces.flatMap(() => ['--empty-ns', 'net']),
  ]
}
