package main

import (
	"context"
	"io"
	"slices"
	"testing"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
)

// Every command that may take long has the flag, and says the same about it.
func TestProgressFlag(t *testing.T) {
	usage := ""
	for _, c := range commands() {
		flags := cli.FlagsOf(c)
		i := slices.IndexFunc(flags, func(f cli.FlagDoc) bool { return f.Names[0] == "--progress" })
		if (i >= 0) != c.Progress {
			t.Errorf("%s: it has a flag --progress: %t", c.Name, i >= 0)
		}
		if i < 0 {
			continue
		}
		if usage == "" {
			usage = flags[i].Usage
		}
		if flags[i].Usage != usage {
			t.Errorf("%s: flag --progress: %s", c.Name, flags[i].Usage)
		}
	}
	env := &cli.Env{Stderr: io.Discard, Stdout: io.Discard, Getenv: func(string) string { return "" }, Now: time.Now}
	if status := program().Run(context.Background(), env, []string{"digest", "--progress", "loud"}); status != cli.StatusUsage {
		t.Errorf("--progress loud: status %d, want %d", status, cli.StatusUsage)
	}
}
