package main

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
)

func versionCommand() Command {
	return Command{
		Name: "version", Group: groupHelp,
		Short:   "print the version, the commit it was built from, and the platform",
		Long:    "Version prints one line: the version, the commit that the program was built from (with \"+changes\" if the tree had any), the Go release and the platform.",
		Example: "ocikit version",
		Bind: func(fs *flag.FlagSet) Action {
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) > 0 {
					return usagef("no operands are taken")
				}
				_, err := fmt.Fprintf(env.Stdout, "ocikit %s %s %s/%s\n", env.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}

// buildVersion returns the version and the commit, as the Go tool recorded them.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown unknown"
	}
	version, commit, changes := info.Main.Version, "unknown", ""
	if version == "" || version == "(devel)" || strings.HasPrefix(version, "v0.0.0-") {
		version = "devel" // no tag; the commit says which
	}
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changes = "+changes"
		}
	}
	return version + " " + commit + changes
}
