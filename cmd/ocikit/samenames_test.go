package main

import (
	"os"
	"strings"
	"testing"

	"ocikit/oci"
)

// Two entries of an index.json may share a tag. As Docker saves alpine:3 and busybox:3, each has a full
// name beside it, and goes by that. Without, neither has the better right to the tag: both are named and
// go nowhere. A copy kept the last of the two, and an archive had a name that nobody could read again.
func TestImagesOfOneTag(t *testing.T) {
	t.Chdir(t.TempDir())
	for dir, full := range map[string]func(string) string{
		"docker": func(repo string) string { return "docker.io/library/" + repo + ":3" },
		"twins":  func(string) string { return "" },
	} {
		s := newTodayStore(t, dir)
		for repo, platform := range map[string]string{"alpine": "linux/amd64", "busybox": "linux/arm64"} {
			desc := s.image(platform)
			desc.Platform = nil
			s.name(desc.WithAnnotation(oci.AnnotationImageName, full(repo)), "3")
		}
	}
	addr := startServe(t, "served", "--log", "none")
	for target, commands := range map[string][]string{
		"copied":   {"copy --all docker copied", "ls copied"},
		"copy.tar": {"copy --all docker copy.tar", "ls copy.tar"},
		"save.tar": {"save --all docker -o save.tar", "ls save.tar"},
		"b.tar":    {"bundle --all docker -o b.tar", "ls b.tar"},
		"pushed":   {"push --all docker " + addr + "/x", "registry catalog " + addr},
	} {
		var out string
		for _, line := range commands {
			status, got, said := runOcikit(t.Context(), strings.NewReader(""), strings.Fields(line)...)
			if status != 0 {
				t.Errorf("%s: status %d, %s", line, status, said)
			}
			out = got
		}
		for _, name := range []string{"library/alpine", "library/busybox"} {
			if !strings.Contains(out, name) {
				t.Errorf("%s has %q, want %s", target, out, name)
			}
		}

		args := strings.Fields(strings.Replace(commands[0], "docker", "twins", 1))
		for i, a := range args {
			args[i] = strings.Replace(a, target, "not."+target, 1)
		}
		status, _, said := runOcikit(t.Context(), strings.NewReader(""), args...)
		if status != 1 || strings.Count(said, "\n") > 3 || !strings.Contains(said, "2 of 2 images failed") {
			t.Errorf("%v: status %d, %s", args, status, said)
		}
		if _, err := os.Stat("not." + target); err == nil {
			t.Errorf("%v left %s", args, "not."+target)
		}
	}

	// A single copy of both tells, too.
	if status, _, said := runOcikit(t.Context(), strings.NewReader(""), "copy", "twins:3", "x"); status != 1 {
		t.Errorf("copy of one of them: status %d, %s", status, said)
	}
}
