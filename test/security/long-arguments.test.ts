import { expect, it } from 'vitest'
import { engineAttack } from './support.ts'

// A container has many processes with arguments of megabytes, which cost it nothing: they are read into the memory of the engine.
engineAttack('the list of processes', (sandbox) => {
  it('has the start of their arguments, however long they are', async () => {
    // Of a shell that forks, all have the same memory.
    const script = `a=$(head -c 100000 /dev/zero | tr '\\0' x)
      exec sh -c 'mkfifo /tmp/fifo; for i in $(seq 50); do read x </tmp/fifo & done; echo ready; read x </tmp/fifo' $a $a $a $a $a $a $a $a`
    await using box = await sandbox().run(['sh', '-c', script])
    for await (const chunk of box.stdout) if (String(chunk).includes('ready')) break
    const processes = await box.top()
    expect(processes.length).toBeGreaterThan(50)
    for (const { command } of processes) {
      expect(command[0]).toBe('sh')
      expect(command.join(' ').length).toBeLessThanOrEqual(4096)
    }
  })
})
