/**
 * Numbers that descriptors have in the monitor and in the container's first process. Those that a call
 * opens get the lowest free number; what is moved there by dup3 is out of their reach.
 */
export const descriptor = {
  /** The monitor's socket. */
  monitor: 3,
  /** The first process's socket (childSocket of the spare remote processes) … */
  init: 4,
  /** … which is out of the way where the program is to get descriptors of such numbers. */
  initAbove: 250,
  /** The first of those that the program is to get, until it gets them. */
  preserved: 300,
  /** The first process: the mount that becomes its root. */
  root: 100,
  /** The socket of a process between monitor and first process. */
  stage: 7,
  /** The monitor: the end of a pipe which tells that nobody has the other one any more, … */
  begun: 5,
  /** … and the other one, which the first process has until it is the program. */
  beginning: 7,
  /** The monitor: the lock of the state directory, held as long as it lives. */
  lock: 6,
  /** The monitor: the first process (pidfd). */
  process: 8,
  /** The monitor of a container of a pool: the container's mount namespace. */
  mounts: 9,
  /** The first process: what mount(2) is to mount on, which takes a path. */
  target: 101,
  /** The first of the two that lead to groups of resctrl. */
  resctrl: 102,
  /** The first of the user namespaces that owners of mounts are mapped by. */
  userNamespaces: 600,
  /** The mount that becomes the root, where somebody else has made it. */
  rootTree: 690,
  /** The first of the mounts that the monitor has opened for the first process. */
  trees: 700,
  /** The first process: the socket that its terminal is sent through, … */
  terminal: 9,
  /** … and the terminal until then. */
  terminalMaster: 102,
  /** The first of those of mounts with tmpcopyup, three for each: what is copied, where to, and the mount. */
  copies: 550,
  /** The first of the tmpfs that are to get the mode of the directory below them. */
  tmpfs: 800,
  /** The first of those that lead to the cgroup. */
  cgroup: 110,
} as const
