import type { Call } from '../../linux/call.ts'
import { pollNow } from '../../linux/calls/processes.ts'
import {
  type Notification,
  notificationOut,
  parseNotification,
  receiveNotification,
  sendResponse,
} from '../../linux/calls/seccomp-notify.ts'
import { FilterServer } from '../syscalls/filter-server.ts'

/** What is done with the calls of a filter. */
export interface LearnerOptions {
  /** Told before the first call of the program is made, which is the execve by which it starts. */
  readonly started: (pid: number) => Promise<void>
  /** Counts a call. Gives the errno with which it is refused; undefined for one that is made. */
  readonly judge: (call: Notification) => number | undefined
}

/** Sees every call of a process and of all that come of it, one after the other. */
export class Learner extends FilterServer {
  private readonly options: LearnerOptions
  private isStarted = false

  constructor(id: string, options: LearnerOptions) {
    super(id)
    this.options = options
  }

  protected override async receive(listener: number): Promise<void> {
    const background = { background: true }
    let answer: readonly Call[] = []
    for (;;) {
      const to = notificationOut()
      // On kernels before 6.11 this waits also when nobody is left; it is closed with the container.
      const taken = receiveNotification(listener, to, { tolerate: 'ENOENT' })
      const results = await this.receiver.run([...answer, taken], background)
      answer = []
      if (results.value(taken) === 0) {
        const waiting = parseNotification(results.bytes(to))
        const errno = await this.decide(waiting)
        const response = errno === undefined ? ({ goOn: true } as const) : { errno }
        answer = [sendResponse(listener, waiting.id, response, { tolerate: 'ENOENT' })]
        continue
      }
      // Either a caller was killed, or they all are gone.
      const gone = pollNow(listener, 0)
      if ((await this.receiver.run([gone], background)).value(gone) === 1) return
    }
  }

  private async decide(waiting: Notification): Promise<number | undefined> {
    if (this.passesOver()) return undefined
    if (!this.isStarted) {
      this.isStarted = true
      await this.options.started(waiting.pid)
    }
    return this.options.judge(waiting)
  }
}
