import { main } from '../../src/cli/command-line.ts'

// The command line as the sources have it. Usage: from-sources.ts <what oci-ts gets>…
main(process.argv.slice(2))
