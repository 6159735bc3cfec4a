import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { busyboxImage } from '../engine/support/busybox.ts'
import { tar } from '../layer/support/tar.ts'
import { engineAttack } from './support.ts'

// A hook runs on the host, as root: what it looks for in its working directory is to be nothing of a container's.
engineAttack('the working directory of hooks', (sandbox) => {
  it('has no files of the container or of its image', async () => {
    const evil = { name: 'plugin', content: '#!/bin/sh\necho evil of the image\n', mode: 0o755 }
    await sandbox().put('plugin', busyboxImage({ layers: [tar(evil)] }))
    const seen = join(sandbox().directory, 'seen')
    const script = `pwd >>${seen}; ls -a >>${seen}; ./plugin >>${seen} 2>&1; ./own >>${seen} 2>&1; true`
    const hook = { path: '/bin/sh', args: ['sh', '-c', script], env: ['PATH=/bin:/usr/bin'] }
    const box = await sandbox().engine.run('plugin', {
      command: [
        'sh',
        '-c',
        'printf "#!/bin/sh\\necho evil of the container\\n" >/own; chmod 755 /own /plugin; mkdir /own-directory',
      ],
      pull: 'never',
      cgroupsPath: sandbox().cgroup(),
      hooks: { prestart: [hook], createRuntime: [hook], poststart: [hook], poststop: [hook] },
    })
    await box.exited
    await box.remove()
    const text = readFileSync(seen, 'utf8')
    expect(text.match(/^\//gm)).toHaveLength(4)
    expect(text).not.toMatch(/evil of|own-directory|^bin$/m)
  })
})
