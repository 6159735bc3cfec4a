/** What a runtime does, by its name in config.json (runtime-spec 1.3, features.md). */
export interface Features {
  /** Oldest and newest version of the runtime-spec that it takes. */
  readonly ociVersionMin: string
  readonly ociVersionMax: string
  readonly hooks?: readonly string[]
  readonly mountOptions?: readonly string[]
  readonly linux?: LinuxFeatures
  readonly annotations?: Readonly<Record<string, string>>
  /** Annotations of a config that change what the runtime does; a name that ends in `.` stands for all that begin so. */
  readonly potentiallyUnsafeConfigAnnotations?: readonly string[]
}

/** What a runtime does on Linux, whatever a host can do (features-linux.md). */
export interface LinuxFeatures {
  readonly namespaces?: readonly string[]
  readonly capabilities?: readonly string[]
  readonly cgroup?: CgroupFeatures
  readonly seccomp?: SeccompFeatures
  readonly apparmor?: EnabledFeature
  readonly selinux?: EnabledFeature
  readonly intelRdt?: EnabledFeature
  readonly memoryPolicy?: { readonly modes?: readonly string[]; readonly flags?: readonly string[] }
  readonly mountExtensions?: { readonly idmap?: EnabledFeature }
  readonly netDevices?: EnabledFeature
}

/** Whether a runtime was built with something. */
export interface EnabledFeature {
  readonly enabled?: boolean
}

/** Managers of cgroups. */
export interface CgroupFeatures {
  readonly v1?: boolean
  readonly v2?: boolean
  readonly systemd?: boolean
  readonly systemdUser?: boolean
  readonly rdma?: boolean
}

/** What a seccomp profile may have. */
export interface SeccompFeatures extends EnabledFeature {
  readonly actions?: readonly string[]
  readonly operators?: readonly string[]
  readonly archs?: readonly string[]
  readonly knownFlags?: readonly string[]
  readonly supportedFlags?: readonly string[]
}
