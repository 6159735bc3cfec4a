import { closeSync } from 'node:fs'
import { pidfdSendSignal } from '../linux/calls/processes.ts'
import { perform } from '../linux/local.ts'
import { openFirstProcess } from './kill.ts'
import type { ContainerRecord } from './state-directory.ts'

/** The first process of a container of this process. Most containers end before anybody needs hold of it. */
export class FirstProcess {
  private readonly record: ContainerRecord
  private descriptor: number | undefined
  private isOver = false

  /** @param descriptor that stands for it (pidfd_open(2)), where there is one already: it is taken over. */
  constructor(record: ContainerRecord, descriptor: number | undefined) {
    this.record = record
    this.descriptor = descriptor
  }

  /** The descriptor that stands for it, which stays open until {@link end}; undefined when it has ended. */
  get pidfd(): number | undefined {
    if (this.isOver) return undefined
    this.descriptor ??= openFirstProcess(this.record)
    return this.descriptor
  }

  /** @returns false when it has ended. */
  signal(number: number): boolean {
    const { pidfd } = this
    return pidfd !== undefined && perform(pidfdSendSignal(pidfd, number, { tolerate: 'ESRCH' })) === 0
  }

  /** Says that it has ended. */
  end(): void {
    this.isOver = true
    if (this.descriptor !== undefined) closeSync(this.descriptor)
    this.descriptor = undefined
  }
}
