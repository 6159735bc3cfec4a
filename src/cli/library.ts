import { type ImageCommand, imageCommands } from './images/commands.ts'

/** The commands that need more than the runtime: in a file of their own, so that the others start fast. */
export const libraryCommands: Readonly<Record<string, ImageCommand>> = {
  ...imageCommands,
  registry: {
    summary: 'Run a registry, or a cache in front of one',
    run: async (args) => (await import('./registry.ts')).registryCommand(args),
  },
}
