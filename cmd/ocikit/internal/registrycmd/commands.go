// Package registrycmd holds the commands that talk to a registry, and serve, which is one.
//
// A command binds its flags to locals or a struct, checks its operands, opens a client with
// [commonflags.Registry] and makes one call into a library: oci/registry and the packages below it
// speak the protocol, pushcmd sends images and keeps upload sessions. The "upload" steps hand their
// session on through the pipe or a file. The "registry" requests share registryStep: one operand,
// one client, one request.
//
// [Commands] is the entry point. Each command has a file of its own, small relatives share one.
package registrycmd

import "ocikit/cmd/ocikit/internal/cli"

// Commands returns the commands of this package, in the order in which help lists them. Each call
// makes new values, so that two of them may run at once.
func Commands() []cli.Command {
	table := []cli.Command{pushCommand(), pullCommand()}
	table = append(table, uploadCommands()...)
	table = append(table, registryCommands()...)
	return append(table, loginCommand(), logoutCommand(), serveCommand())
}
