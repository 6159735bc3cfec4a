/** Where things lie in the memory of a remote process. Fixed, so that addresses are known before it is started. */

/** Where the program is loaded; above the lowest address that an ordinary user may map (vm.mmap_min_addr). */
export const codeAddress = 0x40000

/** Where a message is received; the machine code names it. */
export const messageAddress = 0x100000

/** Bytes of a message's header. */
export const headerSize = 32

/** Most bytes that may follow a header; the machine code refuses more. */
export const messageCapacity = 0x100000
