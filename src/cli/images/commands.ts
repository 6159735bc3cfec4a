/** A command about images and registries. */
export interface ImageCommand {
  /** What it does, as one line of the usage. */
  readonly summary: string
  /** Runs it. @returns what to print. */
  run(args: readonly string[]): Promise<string>
}

/** The commands by name; each is loaded when it is asked for. */
export const imageCommands: Readonly<Record<string, ImageCommand>> = {
  pull: {
    summary: 'Pull an image into the store',
    run: async (args) => (await import('./pull.ts')).pullCommand(args),
  },
  push: {
    summary: 'Push an image of the store to a registry',
    run: async (args) => (await import('./push.ts')).pushCommand(args),
  },
  copy: {
    summary: 'Copy an image between registries, layouts, archives and the store',
    run: async (args) => (await import('./copy.ts')).copyCommand(args),
  },
  tags: {
    summary: 'List the tags of a repository',
    run: async (args) => (await import('./tags.ts')).tagsCommand(args),
  },
  search: {
    summary: 'Search a registry for repositories',
    run: async (args) => (await import('./search.ts')).searchCommand(args),
  },
  login: {
    summary: 'Keep a credential for a registry',
    run: async (args) => (await import('./login.ts')).loginCommand(args),
  },
  logout: {
    summary: 'Remove the credential for a registry',
    run: async (args) => (await import('./logout.ts')).logoutCommand(args),
  },
}
