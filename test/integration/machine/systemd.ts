import { existsSync, readFileSync } from 'node:fs'
import type { Cpio } from './cpio.ts'

const systemd = '/lib/systemd/systemd'

/** What a machine needs of this one to have systemd as its first process. */
export const systemdPrograms: readonly string[] = [systemd, '/usr/bin/systemctl', '/usr/bin/dbus-daemon']

/** Whether a machine can be booted with systemd; else why not. */
export const noSystemd: string | undefined = systemdPrograms.every((path) => existsSync(path))
  ? undefined
  : 'needs systemd and dbus-daemon'

/** What the machine's first process becomes. */
export const startSystemd: string = `exec ${systemd}\n`

/** Whose systemd there is, beside that of root. */
const user = 1000

const unit = '[Unit]\nDefaultDependencies=no\n'

/** No more than a bus, the systemd of a user, and the tests: each further unit takes seconds in an emulated machine. */
const units: Readonly<Record<string, string>> = {
  'system/default.target': `${unit}Wants=tests.service\n`,
  'system/dbus.socket': `${unit}[Socket]\nListenStream=/run/dbus/system_bus_socket\n`,
  'system/dbus.service': `${unit}Requires=dbus.socket
[Service]
Type=notify
ExecStart=/usr/bin/dbus-daemon --config-file=/etc/bus.conf --address=systemd: --nofork --nopidfile --systemd-activation
`,
  [`system/user@${user}.service`]: `${unit}After=dbus.service
[Service]
Type=notify
User=${user}
Slice=user.slice
Delegate=yes
RuntimeDirectory=user/${user}
RuntimeDirectoryMode=0700
Environment=XDG_RUNTIME_DIR=/run/user/${user}
ExecStart=${systemd} --user
`,
  'system/tests.service': `${unit}Wants=dbus.service user@${user}.service
After=dbus.service user@${user}.service
[Service]
ExecStart=/run-tests
Environment=HOME=/root
LimitNOFILE=1048576
`,
  'user/default.target': unit,
}

const busConfig = `<busconfig><type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen>
<auth>EXTERNAL</auth><policy context="default"><allow user="*"/><deny own="*"/><deny send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/>
<allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/></policy>
<includedir>/usr/share/dbus-1/system.d</includedir></busconfig>`

/** Puts systemd's configuration into the first root of a machine. */
export function addSystemd(cpio: Cpio): void {
  for (const [name, text] of Object.entries(units)) cpio.file(`etc/systemd/${name}`, text, 0o644)
  cpio.file('etc/machine-id', `${'0123456789abcdef'.repeat(2)}\n`, 0o644)
  cpio.file('etc/bus.conf', busConfig, 0o644)
  const policy = '/usr/share/dbus-1/system.d/org.freedesktop.systemd1.conf'
  cpio.file(policy.slice(1), readFileSync(policy), 0o644)
}
