// Package layercmd holds the commands that make layers: tar, compression, digests, differences.
//
// Most are filters: bytes come from a file or standard input and go to standard output, so that
// they can stand in a pipe with each other and with other programs. An output is whole or cut
// short, never wrong and whole. The formats are those of tarutil and the packages below it.
//
// [Commands] is the entry point. [AddLayer] and [OpenSources] are what commands of other packages
// share with layer and tar. Each command has a file of its own.
package layercmd

import "ocikit/cmd/ocikit/internal/cli"

// Commands returns the commands of this package, in the order in which help lists them. Each call
// makes new values, so that two of them may run at once.
func Commands() []cli.Command {
	return []cli.Command{
		tarCommand(), retarCommand(), gzipCommand(), zstdCommand(), digestCommand(), diffidCommand(), diffCommand(), layerCommand(),
	}
}
