import { posix } from 'node:path'
import { InvalidArgumentError } from '../errors.ts'
import type { ExecutionConfig, ImageConfig } from '../image/config.ts'
import { quote } from '../internal/text.ts'
import { grantedCapabilities } from './capabilities.ts'
import { defaultMaskedPaths, defaultReadonlyPaths } from './defaults.ts'
import { environment } from './environment.ts'
import { rootPropagation, specMounts } from './mounts.ts'
import type { BundleOptions, NamespaceMode } from './options.ts'
import { specResources, specRlimits } from './resources.ts'
import { defaultSeccomp } from './seccomp-default.ts'
import { type Spec, specVersion } from './spec.ts'
import type { Linux, LinuxDevice, LinuxNamespace, LinuxNamespaceType } from './spec-linux.ts'
import type { Process } from './spec-process.ts'
import { resolveUser } from './user.ts'

/** What of an image config a spec depends on. */
export type ImageDefaults = Pick<ImageConfig, 'config'> & { readonly architecture?: string }

/**
 * The config.json that runs a container of an image, as Docker would set it: the image's defaults, the
 * options over them, Docker's own defaults below. It reads nothing but its arguments. What the host
 * can't grant (a capability, a limit) is in the spec all the same; the runtime warns of it.
 * @throws InvalidArgumentError naming the option that can't be used, or when there is no command;
 * NotFoundError for an unknown user or group
 */
export function createSpec(image: ImageDefaults | undefined, options: BundleOptions): Spec {
  const hostname = options.uts === 'host' ? undefined : (options.hostname ?? options.id.slice(0, 12))
  if (options.uts === 'host' && (options.hostname !== undefined || options.domainname !== undefined)) {
    throw new InvalidArgumentError('hostname and domainname need a uts namespace of their own', { subject: 'uts' })
  }
  const capabilities = grantedCapabilities(options.capabilities?.add, options.capabilities?.drop)
  return {
    ociVersion: specVersion,
    root: { path: options.rootfs ?? 'rootfs', readonly: options.readOnly ?? false },
    ...(hostname === undefined ? {} : { hostname }),
    ...optional('domainname', options.domainname),
    mounts: specMounts(options),
    process: specProcess(image?.config ?? {}, options, hostname, capabilities),
    ...optional('hooks', options.hooks),
    ...optional('annotations', options.annotations),
    linux: specLinux(image, options, capabilities),
  }
}

function specProcess(
  image: ExecutionConfig,
  options: BundleOptions,
  hostname: string | undefined,
  capabilities: readonly string[],
): Process {
  const { uid, gid, additionalGids, home } = resolveUser(
    options.user ?? image.User ?? '',
    options.accounts ?? {},
    options.groups,
  )
  const terminal = options.terminal ?? false
  return {
    terminal,
    ...optional('consoleSize', options.consoleSize),
    user: { uid, gid, ...optional('umask', options.umask), additionalGids },
    args: command(image, options),
    env: environment({ hostname, home, terminal, image: image.Env ?? [], user: options.env ?? {} }),
    cwd: workingDir(image, options),
    // Neither inheritable nor ambient ones: they would pass through execve to programs nobody vetted (CVE-2022-24769).
    capabilities: { bounding: capabilities, permitted: capabilities, effective: capabilities },
    ...(options.ulimits === undefined ? {} : { rlimits: specRlimits(options.ulimits) }),
    noNewPrivileges: options.noNewPrivileges ?? false,
    ...optional('oomScoreAdj', options.oomScoreAdj),
    ...optional('apparmorProfile', options.apparmorProfile),
    ...optional('selinuxLabel', options.selinuxLabel),
  }
}

/** Docker's rule: another entrypoint takes the image's command out of use. */
function command(image: ExecutionConfig, options: BundleOptions): readonly string[] {
  const entrypoint = options.entrypoint ?? image.Entrypoint ?? []
  const args = options.command ?? (options.entrypoint === undefined ? image.Cmd : undefined) ?? []
  const argv = [...entrypoint, ...args]
  if (argv.length === 0 || argv[0] === '') {
    throw new InvalidArgumentError('there is no command to run: neither the image nor the options name one', {
      subject: 'command',
      hint: 'Set command.',
    })
  }
  const broken = argv.find((argument) => argument.includes('\0'))
  if (broken !== undefined) {
    throw new InvalidArgumentError(`an argument can't have a NUL character: ${quote(broken)}`, { subject: 'command' })
  }
  return argv
}

function workingDir(image: ExecutionConfig, options: BundleOptions): string {
  const { workingDir: wanted } = options
  if (wanted !== undefined && (!wanted.startsWith('/') || wanted.includes('\0'))) {
    throw new InvalidArgumentError(`workingDir must be an absolute path, not ${quote(wanted)}`, {
      subject: 'workingDir',
    })
  }
  return posix.resolve('/', wanted ?? image.WorkingDir ?? '/')
}

function specLinux(image: ImageDefaults | undefined, options: BundleOptions, capabilities: readonly string[]): Linux {
  const { userNamespace, host = {} } = options
  const sysctl = { ...defaultSysctl(options), ...options.sysctl }
  const seccomp =
    options.seccomp === 'unconfined'
      ? undefined
      : options.seccomp === undefined || options.seccomp === 'default'
        ? defaultSeccomp({
            architecture: host.architecture ?? image?.architecture ?? hostArchitecture(),
            capabilities,
          })
        : options.seccomp
  return {
    namespaces: namespaces(options),
    ...optional('uidMappings', userNamespace?.uidMappings),
    ...optional('gidMappings', userNamespace?.gidMappings),
    ...(Object.keys(sysctl).length === 0 ? {} : { sysctl }),
    ...optional('cgroupsPath', options.cgroupsPath),
    resources: specResources(options),
    devices: (options.devices ?? []).map(node),
    ...optional('seccomp', seccomp),
    ...optional('rootfsPropagation', rootPropagation(options)),
    maskedPaths: options.maskedPaths ?? [...defaultMaskedPaths, ...(host.maskedPaths ?? [])],
    readonlyPaths: options.readonlyPaths ?? defaultReadonlyPaths,
    ...optional('mountLabel', options.mountLabel),
  }
}

function node({ access: _, ...device }: LinuxDevice & { readonly access?: string }): LinuxDevice {
  return device
}

function namespaces(options: BundleOptions): readonly LinuxNamespace[] {
  const { userNamespace } = options
  const modes: readonly (readonly [LinuxNamespaceType, NamespaceMode])[] = [
    [
      'user',
      userNamespace === undefined
        ? 'host'
        : userNamespace.path === undefined
          ? 'private'
          : { path: userNamespace.path },
    ],
    ['mount', 'private'],
    ['pid', options.pid ?? 'private'],
    ['network', options.network ?? 'private'],
    ['ipc', options.ipc ?? 'private'],
    ['uts', options.uts ?? 'private'],
    ['cgroup', options.cgroup ?? 'private'],
    ['time', options.time ?? 'host'],
  ]
  return modes.flatMap(([type, mode]) =>
    mode === 'host' ? [] : mode === 'private' ? [{ type }] : [{ type, path: mode.path }],
  )
}

/** Docker's: without capabilities, a container may ping and listen on any port of its own network. */
function defaultSysctl({ network = 'private', userNamespace }: BundleOptions): Record<string, string> {
  if (network !== 'private') return {}
  return {
    'net.ipv4.ip_unprivileged_port_start': '0',
    // The range would have to be mapped in full.
    ...(userNamespace === undefined ? { 'net.ipv4.ping_group_range': '0 2147483647' } : {}),
  }
}

function hostArchitecture(): string {
  return process.arch === 'x64' ? 'amd64' : process.arch
}

/** A member for an object literal that is left out when its value is undefined. */
function optional<K extends string, T>(name: K, value: T | undefined): { readonly [P in K]?: T } {
  return value === undefined ? {} : ({ [name]: value } as { readonly [P in K]?: T })
}
