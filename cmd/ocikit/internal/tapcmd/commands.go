// Package tapcmd holds the commands that look at what passes between a client and a registry.
//
// Tap stands between the two, judges each exchange and may record it; explain judges a recording
// again; replay plays one, as either side. The proxy, the verdicts, the format of recordings and
// the player are oci/registry/tap and the packages below it.
//
// [Commands] is the entry point. Each command has a file of its own; sinks.go belongs to tap.
package tapcmd

import "ocikit/cmd/ocikit/internal/cli"

// Commands returns the commands of this package, in the order in which help lists them. Each call
// makes new values, so that two of them may run at once.
func Commands() []cli.Command {
	return []cli.Command{tapCommand(), explainCommand(), replayCommand()}
}
