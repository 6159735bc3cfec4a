import type { Command } from '../command.ts'
import { auditCommand } from './audit.ts'
import { checkpointCommand } from './checkpoint.ts'
import { createCommand } from './create.ts'
import { deleteCommand } from './delete.ts'
import { eventsCommand } from './events.ts'
import { execCommand } from './exec.ts'
import { featuresCommand } from './features.ts'
import { killCommand } from './kill.ts'
import { listCommand } from './list.ts'
import { mountsCommand } from './mounts.ts'
import { pauseCommand, resumeCommand } from './pause.ts'
import { planCommand } from './plan.ts'
import { psCommand } from './ps.ts'
import { restoreCommand } from './restore.ts'
import { runCommand } from './run.ts'
import { specCommand } from './spec.ts'
import { startCommand } from './start.ts'
import { stateCommand } from './state.ts'
import { updateCommand } from './update.ts'

/** The commands of the runtime, in the order of the usage. */
export const runtimeCommands: Readonly<Record<string, Command>> = {
  create: createCommand,
  start: startCommand,
  run: runCommand,
  exec: execCommand,
  kill: killCommand,
  delete: deleteCommand,
  state: stateCommand,
  list: listCommand,
  ps: psCommand,
  pause: pauseCommand,
  resume: resumeCommand,
  update: updateCommand,
  events: eventsCommand,
  mounts: mountsCommand,
  checkpoint: checkpointCommand,
  restore: restoreCommand,
  spec: specCommand,
  features: featuresCommand,
  plan: planCommand,
  audit: auditCommand,
}
