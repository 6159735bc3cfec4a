// biome-ignore-all lint/suspicious/noTemplateCurlyInString: instructions have such variables
import { describe, expect, it } from 'vitest'
import { changeConfig } from '../../src/build/config-changes.ts'
import { InvalidArgumentError } from '../../src/errors.ts'
import type { ExecutionConfig } from '../../src/image/config.ts'

const base: ExecutionConfig = {
  Env: ['PATH=/bin', 'A=1'],
  Cmd: ['old'],
  Entrypoint: ['/entry'],
  WorkingDir: '/srv',
  Labels: { kept: 'yes' },
}

describe('changeConfig', () => {
  it.each<[string, Partial<ExecutionConfig>]>([
    ['CMD ["a", "b c"]', { Cmd: ['a', 'b c'] }],
    ['CMD []', { Cmd: [] }],
    ['cmd echo "$A" b', { Cmd: ['/bin/sh', '-c', 'echo "$A" b'] }],
    ['CMD ["a", 1]', { Cmd: ['/bin/sh', '-c', '["a", 1]'] }],
    ["CMD ['a']", { Cmd: ['/bin/sh', '-c', "['a']"] }],
    ['ENV B=2', { Env: ['PATH=/bin', 'A=1', 'B=2'] }],
    ['ENV A=3', { Env: ['PATH=/bin', 'A=3'] }],
    ['ENV PATH=/x:$PATH C="a b" D=a\\ b E=\'$A\'', { Env: ['PATH=/x:/bin', 'A=1', 'C=a b', 'D=a b', 'E=$A'] }],
    ['ENV X the rest  of it', { Env: ['PATH=/bin', 'A=1', 'X=the rest  of it'] }],
    ['ENV X=', { Env: ['PATH=/bin', 'A=1', 'X='] }],
    ['ENV X=${A:-no}${N:-yes}${N:+no}${A:+set}${A-x}${N-y}', { Env: ['PATH=/bin', 'A=1', 'X=1yesset1y'] }],
    ['ENV X=${N:-${A}-${M:-"in ner"}}', { Env: ['PATH=/bin', 'A=1', 'X=1-in ner'] }],
    ['ENV X="a\\"b\\n\\$A"', { Env: ['PATH=/bin', 'A=1', 'X=a"b\\n$A'] }],
    ['ENV X=$ Y=a$', { Env: ['PATH=/bin', 'A=1', 'X=$', 'Y=a$'] }],
    [
      'EXPOSE 80 53/udp 8000-8002/tcp',
      { ExposedPorts: { '80/tcp': {}, '53/udp': {}, '8000/tcp': {}, '8001/tcp': {}, '8002/tcp': {} } },
    ],
    ['LABEL a=b "c d"="e f"', { Labels: { kept: 'yes', a: 'b', 'c d': 'e f' } }],
    ['USER 1000:1000', { User: '1000:1000' }],
    ['USER $A', { User: '1' }],
    ['VOLUME /data /other', { Volumes: { '/data': {}, '/other': {} } }],
    ['VOLUME ["/a b", "/c"]', { Volumes: { '/a b': {}, '/c': {} } }],
    ['WORKDIR app', { WorkingDir: '/srv/app' }],
    ['WORKDIR /app/../x', { WorkingDir: '/x' }],
    ['ONBUILD RUN make', { OnBuild: ['RUN make'] }],
    ['STOPSIGNAL SIGQUIT', { StopSignal: 'SIGQUIT' }],
    ['STOPSIGNAL SIGRTMIN+3', { StopSignal: 'SIGRTMIN+3' }],
    ['STOPSIGNAL 9', { StopSignal: '9' }],
    ['  SHELL ["/bin/bash", "-c"]  ', { Shell: ['/bin/bash', '-c'] }],
  ])('takes %s', (instruction, change) => {
    expect(changeConfig(base, [instruction])).toEqual({ ...base, ...change })
  })

  it('forgets the command with the entrypoint it belonged to', () => {
    const { Cmd: _, ...rest } = base
    expect(changeConfig(base, ['ENTRYPOINT ["/new"]'])).toEqual({ ...rest, Entrypoint: ['/new'] })
    expect(changeConfig(base, ['ENTRYPOINT exec top', 'CMD ["x"]'])).toMatchObject({
      Entrypoint: ['/bin/sh', '-c', 'exec top'],
      Cmd: ['x'],
    })
  })

  it('applies one after the other, each with what those before have set', () => {
    const changed = changeConfig({}, [
      'ENV A=1',
      'ENV B=$A A=2 C=$A',
      'WORKDIR /a',
      'WORKDIR $B',
      'SHELL ["s"]',
      'CMD x',
    ])
    expect(changed).toMatchObject({ Env: ['A=2', 'B=1', 'C=1'], WorkingDir: '/a/1', Cmd: ['s', 'x'] })
  })

  it('leaves the config that it is given as it is', () => {
    const copy = structuredClone(base)
    changeConfig(base, ['ENV A=9', 'LABEL x=y', 'ONBUILD RUN x'])
    expect(base).toEqual(copy)
  })

  it.each([
    'RUN make',
    'FROM x',
    '',
    'CMD',
    'ENV',
    'ENV A',
    'ENV A=1 B',
    'ENV =1',
    'ENV A="x',
    "ENV A='x",
    'ENV A=${',
    'ENV A=${B',
    'ENV A=${B:x}',
    'ENV A=${B:?must be set}',
    'ENV A=a\0b',
    'EXPOSE 0',
    'EXPOSE 65536',
    'EXPOSE 90-80',
    'EXPOSE 80/icmp',
    'EXPOSE http',
    'ONBUILD ONBUILD RUN x',
    'ONBUILD FROM x',
    'SHELL /bin/sh',
    'SHELL []',
    'STOPSIGNAL stop it',
    'VOLUME [""]',
  ])('refuses %j', (instruction) => {
    expect(() => changeConfig(base, [instruction])).toThrow(InvalidArgumentError)
  })

  it.each([['ENV A=1'], [{ env: { A: '1' } }], [[['ENV', 'A=1']]], [null]])(
    'refuses %j, which is no list of text',
    (x) => {
      expect(() => changeConfig(base, x as never)).toThrow(/must be a list of instructions/)
    },
  )
})
