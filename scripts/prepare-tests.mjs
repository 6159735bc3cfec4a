// Gets what the tests compare with: other container tools (Debian packages, installed when run as
// root on Debian or Ubuntu) and other versions of Node (npm packages, kept in node_modules/.cache).
// Plain JavaScript, because it runs before anything is built. Never fails: what is missing is named,
// with the tests that are skipped for it and the command that would enable them.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Program or file that shows that the package is there, the Debian package, and what needs it. */
const peers = [
  ['docker-registry', 'docker-registry', 'pull and push against the reference registry'],
  ['skopeo', 'skopeo', 'images written by skopeo, and skopeo reading ours'],
  ['umoci', 'umoci', 'umoci reading our store'],
  ['buildah', 'buildah', 'images written by buildah'],
  ['podman', 'podman', 'podman against our registry'],
  ['/usr/lib/podman/netavark', 'netavark', 'podman against our registry'],
  ['runc', 'runc', 'our bundles run by runc'],
  ['crun', 'crun', 'our bundles run by crun'],
  ['dockerd', 'docker.io', "Docker's engine running containers with our command line"],
  ['script', 'bsdutils', 'programs in a terminal'],
  ['mmdebstrap', 'mmdebstrap', 'a real Debian image'],
  ['busybox', 'busybox-static', 'containers made of one static program'],
  ['qemu-aarch64-static', 'qemu-user-static', 'arm64 machine code'],
  ['objdump', 'binutils', 'machine code against a disassembler'],
  ['aarch64-linux-gnu-objdump', 'binutils-aarch64-linux-gnu', 'machine code against a disassembler'],
  ['ctr', 'containerd', 'containerd reading what we write, and running containers with our command line'],
  ['htpasswd', 'apache2-utils', 'registries with Basic authentication'],
  ['strace', 'strace', 'processes killed at each system call that changes the store'],
  ['newuidmap', 'uidmap', 'rootless containers with ranges of ids'],
  ['dbus-daemon', 'dbus-daemon', 'cgroups that systemd makes, and our client of D-Bus'],
  ['libseccomp.so.2', 'libseccomp2', 'seccomp profiles'],
  ['qemu-system-x86_64', 'qemu-system-x86', 'cgroup version 2 alone, in a machine of its own'],
  ['criu', 'criu', 'checkpoint and restore'],
].map(([probe, name, tests]) => ({ probe, name, tests }))

/** Modules that the test machine loads. */
const kernelModules = [
  ...['overlay', 'configfs', 'null_blk', 'bfq', 'veth', 'libcrc32c', 'nf_defrag_ipv4', 'nf_defrag_ipv6', 'nfnetlink'],
  ...['nf_conntrack', 'nf_conntrack_netlink', 'nf_tables', 'tun', 'unix_diag', 'inet_diag', 'tcp_diag', 'udp_diag'],
  ...['netlink_diag', 'af_packet_diag'],
]

/** Node versions that the packed package is tried on, besides the one that runs this. */
const nodes = [22, 24, 26]

const programDirectories = [...(process.env.PATH ?? '').split(delimiter), '/usr/local/sbin', '/usr/sbin', '/sbin']

function libraryDirectories() {
  const nested = existsSync('/usr/lib') ? readdirSync('/usr/lib').filter((name) => name.endsWith('-linux-gnu')) : []
  return [...nested.map((name) => join('/usr/lib', name)), '/usr/lib64', '/usr/lib', '/lib']
}

function isPresent({ probe }) {
  if (probe.startsWith('/')) return existsSync(probe)
  const directories = probe.includes('.so') ? libraryDirectories() : programDirectories
  return directories.some((directory) => directory !== '' && existsSync(join(directory, probe)))
}

function isDebian() {
  if (!existsSync('/etc/os-release') || !existsSync('/usr/bin/apt-get')) return false
  return /^ID(_LIKE)?=.*\b(debian|ubuntu)\b/m.test(readFileSync('/etc/os-release', 'utf8'))
}

function apt(...args) {
  const { status } = spawnSync('apt-get', ['-qq', '-o', 'DPkg::Lock::Timeout=300', ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  return status === 0
}

/** Installs Debian packages without starting the services in them: docker-registry would take port 5000. */
function installPackages(names) {
  const policy = '/usr/sbin/policy-rc.d'
  const ours = !existsSync(policy)
  if (ours) writeFileSync(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755 })
  try {
    apt('update')
    const install = ['install', '--yes', '--no-install-recommends']
    // A release that lacks one of the packages refuses all of them.
    if (!apt(...install, ...names)) for (const name of names) apt(...install, name)
  } finally {
    if (ours) rmSync(policy)
  }
}

function preparePeers() {
  let missing = peers.filter((peer) => !isPresent(peer))
  if (missing.length > 0 && isDebian() && process.getuid() === 0) {
    console.log(`Installing what the tests compare with: ${missing.map((peer) => peer.name).join(' ')}`)
    installPackages(missing.map((peer) => peer.name))
    missing = missing.filter((peer) => !isPresent(peer))
  }
  if (missing.length === 0) return console.log(`Peers: all ${peers.length} there`)
  console.log(`Peers: ${missing.length} of ${peers.length} missing; these tests are skipped:`)
  for (const peer of missing) console.log(`  ${peer.name}: ${peer.tests}`)
  console.log(`To enable them: sudo apt-get install -y ${missing.map((peer) => peer.name).join(' ')}`)
}

function prepareNodes() {
  const home = fileURLToPath(new URL('../node_modules/.cache/oci-ts/node', import.meta.url))
  const missing = nodes.filter((major) => !existsSync(join(home, 'node_modules', `node-${major}`, 'bin/node')))
  if (missing.length > 0 && process.platform === 'linux') {
    console.log(`Installing Node ${missing.join(', ')} into node_modules/.cache`)
    mkdirSync(home, { recursive: true })
    writeFileSync(join(home, 'package.json'), '{ "private": true }\n')
    // The package `node` finds its binary with an install script, which npm may refuse to run;
    // the packages with the binaries need none.
    const wanted = nodes.map((major) => `node-${major}@npm:node-linux-${process.arch}@${major}`)
    const npm = ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--loglevel=error', ...wanted]
    const { status } = spawnSync('npm', npm, { cwd: home, stdio: ['ignore', 'ignore', 'inherit'] })
    if (status === 0) missing.length = 0
  }
  if (missing.length === 0) return console.log(`Node versions: ${nodes.join(', ')} there`)
  console.log(`Node versions: ${missing.join(', ')} missing; the package is not tried on them.`)
  console.log('To enable them: node scripts/prepare-tests.mjs, on Linux, with the npm registry in reach')
}

/**
 * Gets a kernel for the machine that tests boot: unpacked into node_modules/.cache and not installed, which would
 * change what this machine boots.
 */
function prepareKernel() {
  const home = fileURLToPath(new URL('../node_modules/.cache/oci-ts/kernel', import.meta.url))
  // The last module that has come to be used: a directory without it is of before.
  const isThere = () => existsSync(join(home, `${kernelModules.at(-1)}.ko`))
  const about = 'Kernel of the test machine'
  if (process.arch !== 'x64') return console.log(`${about}: none for ${process.arch}; tests in a machine are skipped`)
  if (!isThere() && isDebian()) {
    console.log("Getting Debian's cloud kernel into node_modules/.cache")
    const fresh = `${home}.new`
    rmSync(fresh, { recursive: true, force: true })
    mkdirSync(fresh, { recursive: true })
    const depends = spawnSync('apt-cache', ['depends', 'linux-image-cloud-amd64'], { encoding: 'utf8' }).stdout ?? ''
    const name = /Depends: (linux-image-\S+)/.exec(depends)?.[1]
    if (name !== undefined) unpackKernel(name, fresh)
    rmSync(home, { recursive: true, force: true })
    renameSync(fresh, home)
  }
  if (isThere()) return console.log(`${about}: there`)
  console.log(`${about}: missing; tests of cgroup version 2 alone are skipped.`)
  console.log('To enable them: node scripts/prepare-tests.mjs on Debian, with its archive in reach')
}

/** The kernel, and the modules that the tests use. */
function unpackKernel(name, home) {
  const inHome = { cwd: home, stdio: ['ignore', 'ignore', 'inherit'] }
  if (spawnSync('apt-get', ['-qq', 'download', name], inHome).status !== 0) return
  const archive = readdirSync(home).find((each) => each.endsWith('.deb'))
  if (spawnSync('dpkg-deb', ['-x', archive, 'unpacked'], inHome).status !== 0) return
  const unpacked = join(home, 'unpacked')
  for (const each of readdirSync(unpacked, { recursive: true })) {
    // Some modules are in a folder of their name.
    const isModule = each.endsWith('.ko') && kernelModules.includes(basename(each, '.ko'))
    if (isModule || /^boot\/vmlinuz/.test(each)) {
      renameSync(join(unpacked, each), join(home, basename(each)))
    }
  }
  rmSync(unpacked, { recursive: true })
  rmSync(join(home, archive))
}

preparePeers()
prepareKernel()
prepareNodes()
