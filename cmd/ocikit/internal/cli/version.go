package cli

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
)

// VersionCommand returns the command that says which program this is.
func VersionCommand() Command {
	return Command{
		Name: "version", Group: GroupHelp,
		Short:   "print the version, the commit it was built from, and the platform",
		Long:    "Version prints one line: the version, the commit that the program was built from (with \"+changes\" if the tree had any), the Go release and the platform.",
		Example: "ocikit version",
		Bind: func(fs *flag.FlagSet) Action {
			asJSON := BindJSON(fs)
			return func(ctx context.Context, env *Env, args []string) error {
				if *asJSON {
					version, commit, _ := strings.Cut(env.Version, " ")
					return show.WriteJSON(env.Stdout, map[string]string{
						"commit": commit, "go": runtime.Version(), "platform": runtime.GOOS + "/" + runtime.GOARCH, "version": version,
					})
				}
				_, err := fmt.Fprintf(env.Stdout, "ocikit %s %s %s/%s\n", env.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
		},
	}
}

// BuildVersion returns the version and the commit, split by a blank, as the Go tool recorded them.
// What it has not recorded is "unknown".
func BuildVersion() string {
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
