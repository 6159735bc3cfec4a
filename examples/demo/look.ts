/** A script for a container: says what it sees, one `name=value` a line. Needs a shell, cat, hostname, id and ls. */
export const look = `
first() { for f; do cat "$f" 2>/dev/null && return; done; }
say() { echo "$1=$2"; }
cgroup=/sys/fs/cgroup
say user "$(id)"
say hostname "$(hostname)"
say pid $$
set -- /proc/[0-9]*
say processes $#
say interfaces "$(ls /sys/class/net)"
say memory "$(first $cgroup/memory.max $cgroup/memory/memory.limit_in_bytes)"
say cpu "$(first $cgroup/cpu.max $cgroup/cpu/cpu.cfs_quota_us)"
say pids "$(first $cgroup/pids.max $cgroup/pids/pids.max)"
while read -r key value; do
  case $key in
    CapEff:) say capabilities "$value" ;;
    Seccomp:) say seccomp "$value" ;;
  esac
done < /proc/self/status
mounts=
while read -r id parent device root point rest; do mounts="$mounts $point"; done < /proc/self/mountinfo
say mounts "$mounts"
[ -w /proc/sys/kernel/core_pattern ] && say kernel writable || say kernel read-only
echo here > /tmp/note 2>/dev/null || echo here > /note
say root "$(echo /*)"
exit 42
`

/** What {@link look} said, in words; the limits where there are any. */
export function readReport(lines: readonly string[], hasLimits: boolean): readonly (readonly [string, string])[] {
  const said = new Map(lines.map((text) => splitAt(text, '=')))
  const of = (name: string): string => said.get(name) ?? '(nothing)'
  const mounts = of('mounts').trim().split(' ')
  const [quota, period = '100000'] = of('cpu').split(' ')
  const limits: readonly (readonly [string, string])[] = [
    ['memory', `${(Number(of('memory')) / 2 ** 20).toFixed(0)} MiB`],
    ['cpu', `${Number(quota) / Number(period)} of one`],
    ['processes', `at most ${of('pids')}`],
  ]
  return [
    ['user', of('user')],
    ['host name', of('hostname')],
    ['own pid', `${of('pid')}, of ${of('processes')} processes`],
    ['network', of('interfaces')],
    ...(hasLimits ? limits : []),
    ['capabilities', `${bits(of('capabilities'))} (${of('capabilities')})`],
    ['seccomp', of('seccomp') === '2' ? 'filtered' : 'not filtered'],
    ['/proc/sys', of('kernel')],
    ['mounts', `${mounts.length}, among them ${mounts.filter((point) => /^\/\w*$/.test(point)).join(' ')}`],
    ['root', of('root')],
  ]
}

function splitAt(text: string, separator: string): [string, string] {
  const at = text.indexOf(separator)
  return [text.slice(0, at), text.slice(at + 1)]
}

function bits(hexadecimal: string): number {
  return BigInt(`0x${hexadecimal}`).toString(2).replaceAll('0', '').length
}
