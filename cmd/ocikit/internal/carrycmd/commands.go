// Package carrycmd holds the commands that carry images in archives, bundles and parts.
//
// Save and load write and read archives for other programs. Inventory, bundle and unbundle bring
// across a gap what the other side lacks. Split and join cut any of these into files for a medium.
// The files that they write and read are those of oci/archive and the packages below it. Here are
// the flags, the choice of images, and the hints.
//
// [Commands] is the entry point. Each command has a file of its own.
package carrycmd

import "ocikit/cmd/ocikit/internal/cli"

// Commands returns the commands of this package, in the order in which help lists them. Each call
// makes new values, so that two of them may run at once.
func Commands() []cli.Command {
	return []cli.Command{
		saveCommand(), loadCommand(), inventoryCommand(), bundleCommand(), unbundleCommand(), splitCommand(), joinCommand(),
	}
}
