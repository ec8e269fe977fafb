// Package layoutcmd holds the commands that keep a layout: blobs and names in, out and checked.
//
// A command opens its operand, a layout with [operands.OpenLayout] or an image anywhere with
// [operands.Places], makes one call into oci/layout, oci/image or oci/graph, and prints
// descriptors, one a line, for the next command in the pipe. Copy alone writes to archives and
// registries as well.
//
// [Commands] is the entry point. Each command has a file of its own; neededby.go belongs to
// inspect, copyto.go to copy.
package layoutcmd

import "ocikit/cmd/ocikit/internal/cli"

// Commands returns the commands of this package, in the order in which help lists them. Each call
// makes new values, so that two of them may run at once.
func Commands() []cli.Command {
	return []cli.Command{
		initCommand(), putCommand(), catCommand(), tagCommand(), untagCommand(), lsCommand(), resolveCommand(), layersCommand(), inspectCommand(), filesCommand(), verifyCommand(), gcCommand(), copyCommand(),
	}
}
