// Package documentcmd holds the commands that write the documents of an image: config, manifest,
// index.
//
// They stand in one pipe: descriptors come in, a document is made of them and stored in the layout,
// and its descriptor goes out, with those that the next command needs. Without a layout the
// document itself is printed. Each INPUT is a literal descriptor, or a file of descriptors or of
// what they describe, see the package operands.
//
// [Commands] is the entry point. Each command has a file of its own; editindex.go belongs to index.
package documentcmd

import "ocikit/cmd/ocikit/internal/cli"

// Commands returns the commands of this package, in the order in which help lists them. Each call
// makes new values, so that two of them may run at once.
func Commands() []cli.Command {
	return []cli.Command{
		configCommand(), manifestCommand(), indexCommand(),
	}
}
