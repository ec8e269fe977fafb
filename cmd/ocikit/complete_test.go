package main

import (
	"slices"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

func TestComplete(t *testing.T) {
	t.Chdir(t.TempDir())
	must := mustRun(t)
	writeTestFile(t, "rootfs/bin/hello", "x")
	writeTestFile(t, "release/notes", "x")
	writeTestFile(t, "with space/file", "x")
	must("", "init", "app")
	manifest := must(must(must("", "layer", "app", "rootfs"), "config", "app"), "manifest", "app")
	must(manifest, "tag", "app:v1")
	must(manifest, "tag", "app:team/b:v2")
	must("", "init", "apart")

	for _, c := range []struct {
		line string // words split by "|", the last one is completed
		want string
	}{
		{"ups", ""},
		{"u", "untag unbundle upload"},
		{"upload|c", "chunk cancel"},
		{"upload|nothing|", ""},
		{"init|r", "release/ rootfs/"},
		{"init|ap", "apart app"},
		{"tag|rel", "release/"},
		{"tag|app", "app app:team/b:v2 app:v1"},
		{"tag|appa", ""},
		{"tag|app:", "app:team/b:v2 app:v1"},
		{"tag|app:t", "app:team/b:v2"},
		{"tag|oci:app:v", "oci:app:v1"},
		{"tag|./app:v", "./app:v1"},
		{"tag|absent:", ""},
		{"copy|app:v1|app:v", "app:v1"},
		{"push|app:v1|", ""},
		{"push|app:v1|app:v1|", "apart app release/ rootfs/ with space/"},
		{"resolve|app:v1|", ""},
		{"save|app:v1|app:v", "app:v1"},
		{"layer|app|rootfs/b", "rootfs/bin/"},
		{"layer|app|rootfs/bin/", "rootfs/bin/hello"},
		{"digest|with", "with space/"},
		{"digest|--algorithm|", "sha256 sha512"},
		{"digest|--algorithm=sha5", "--algorithm=sha512"},
		{"digest|-|with", "with space/"},
		{"push|--mo", "--mode --mount-from"},
		{"push|--mode|s", "stream"},
		{"tar|--mode|", "keep normalize"},
		{"tar|--|--mo", ""},
		{"flatten|--compress|k", ""},
		{"serve|--fault|put-lo", "put-lost"},
		{"serve|--fault|put-lost,put-5", "put-lost,put-500"},
		{"serve|--fault=put-lo", "--fault=put-lost"},
		{"serve|--listen|", ""},
		{"config|--layer|rel", "release/"},
		{"config|--from|app:v", "app:v1"},
		{"append|app:v1|-t|", ""},
		{"help|stat", "status"},
		{"help|upload|st", "start status"},
		{"help|ver", "verify version"},
		{"completion|", "bash fish zsh"},
		{"version|", ""},
	} {
		var got []string
		for line := range strings.Lines(must("", append([]string{"completion", "--words", "--"}, strings.Split(c.line, "|")...)...)) {
			word, _, _ := strings.Cut(line, "\t")
			got = append(got, word)
		}
		if got := strings.Join(got, " "); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.line, got, c.want)
		}
	}
}

// Every command is completed, and so are all of its flags.
func TestCompleteEveryCommand(t *testing.T) {
	t.Chdir(t.TempDir())
	env := &cli.Env{Getenv: func(string) string { return "" }}
	words := func(line ...string) (words []string) {
		for _, c := range program().Complete(env, line) {
			words = append(words, c.Word)
		}
		return words
	}
	for _, c := range commands() {
		before := []string{}
		for _, word := range strings.Fields(c.Name) {
			if got := words(append(slices.Clone(before), "")...); !slices.Contains(got, word) {
				t.Errorf("%s: %q are completed to %q", c.Name, before, got)
			}
			before = append(before, word)
		}
		got := words(append(before, "--")...)
		for _, f := range cli.FlagsOf(c) {
			if long := f.Names[len(f.Names)-1]; strings.HasPrefix(long, "--") && !slices.Contains(got, long) {
				t.Errorf("%s: %s is not completed", c.Name, long)
			}
		}
	}
}
