package main

import (
	"flag"

	"ocikit/cmd/ocikit/internal/carrycmd"
	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/documentcmd"
	"ocikit/cmd/ocikit/internal/imagecmd"
	"ocikit/cmd/ocikit/internal/layercmd"
	"ocikit/cmd/ocikit/internal/layoutcmd"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/registrycmd"
	"ocikit/cmd/ocikit/internal/tapcmd"
)

// program returns the commands, in the order of help, the topics, and the words of other tools.
func program() *cli.Program {
	p := &cli.Program{
		Topics: topics(), Foreign: foreign(), Shared: shared(),
		FileHint: operands.FileHint, Advise: commonflags.Advise,
	}
	for _, room := range [][]cli.Command{
		layercmd.Commands(), documentcmd.Commands(), layoutcmd.Commands(), imagecmd.Commands(), carrycmd.Commands(), registrycmd.Commands(), tapcmd.Commands(),
		{cli.HelpCommand(p), cli.CompletionCommand(p), cli.VersionCommand()},
	} {
		p.Commands = append(p.Commands, room...)
	}
	return p
}

// shared returns the flags that many commands have.
func shared() []cli.SharedFlags {
	return []cli.SharedFlags{
		{Title: "Registry flags", Bind: func(fs *flag.FlagSet) { commonflags.BindRegistry(fs) }},
		{Title: "Common flags", Bind: cli.BindCommon},
	}
}
