package main

import (
	"bytes"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The manual page and the list in README.md are made from the table of commands.
func TestGeneratedDocs(t *testing.T) {
	var man bytes.Buffer
	if err := writeMan(&man); err != nil {
		t.Fatal(err)
	}
	compareGenerated(t, "ocikit.1", man.String())

	const begin, end = "<!-- commands: made by `ocikit help --readme` -->\n", "<!-- end of commands -->\n"
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(readme), begin)
	_, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md lacks the marks %q and %q", begin, end)
	}
	var list bytes.Buffer
	if err := writeReadmeList(&list); err != nil {
		t.Fatal(err)
	}
	compareGenerated(t, "../../README.md", head+begin+"\n"+list.String()+"\n"+end+tail)
}

func compareGenerated(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) == want {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			t.Fatalf("%s:%d is stale (go test -update rewrites it):\n got %s\nwant %s", file, i+1, g[i], w[i])
		}
	}
	t.Fatalf("%s is stale: it has %d lines, want %d", file, len(g), len(w))
}

func TestTable(t *testing.T) {
	seen := map[string]bool{}
	flags := map[string]string{} // the usage of each flag, by name
	for _, c := range commands() {
		if seen[c.Name] {
			t.Errorf("%s: twice in the table", c.Name)
		}
		seen[c.Name] = true
		if !slices.Contains(groups(), c.Group) {
			t.Errorf("%s: group %q is not listed", c.Name, c.Group)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short != strings.ToLower(c.Short[:1])+c.Short[1:] {
			t.Errorf("%s: Short %q: want a verb phrase, lower case, no full stop", c.Name, c.Short)
		}
		if c.Long == "" || c.Example == "" {
			t.Errorf("%s: no Long or no Example", c.Name)
		}
		if file := strings.ReplaceAll(c.Name, " ", "") + ".go"; !exists(file) && !exists(strings.Fields(c.Name)[0]+".go") && c.Name != "completion" {
			t.Errorf("%s: no file %s", c.Name, file)
		}
		for _, f := range flagsOf(c) {
			if f.usage == "" {
				t.Errorf("%s: flag %s has no usage", c.Name, f.names[0])
			}
			flags[f.names[len(f.names)-1]] += ""
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

func TestHelpOfEveryCommand(t *testing.T) {
	for _, c := range commands() {
		for _, args := range [][]string{append(strings.Fields(c.Name), "-h"), append([]string{"help"}, strings.Fields(c.Name)...)} {
			status, out, errs := runOcikit(t.Context(), strings.NewReader(""), args...)
			if status != 0 || errs != "" || !strings.HasPrefix(out, "usage: ocikit "+c.Name) {
				t.Errorf("ocikit %q: status %d, stdout %q, stderr %q", args, status, out, errs)
			}
			for line := range strings.Lines(out) {
				if len(line) > 100 && !strings.HasPrefix(line, "usage:") && !strings.HasPrefix(line, "  ocikit") {
					t.Errorf("ocikit %q: a line of %d bytes: %s", args, len(line), line)
				}
			}
		}
	}
}

func TestCompletionNamesEveryCommand(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, out, errs := runOcikit(t.Context(), nil, "completion", shell)
		if status != 0 || errs != "" {
			t.Fatalf("completion %s: status %d, %s", shell, status, errs)
		}
		for _, c := range commands() {
			for _, word := range strings.Fields(c.Name) {
				if !regexp.MustCompile(`\b` + word + `\b`).MatchString(out) {
					t.Errorf("completion %s does not name %q", shell, c.Name)
				}
			}
		}
	}
}

// The examples of help are what newcomers type first: each must run, one after the other,
// beside a tree and an image as README makes them.
func TestExamples(t *testing.T) {
	for _, c := range commands() {
		if strings.Contains(c.Example, "REGISTRY") || strings.Contains(c.Example, "localhost") || c.Name == "serve" {
			continue // tested in scripts with a registry
		}
		t.Run(c.Name, func(t *testing.T) {
			script := examplePreamble + cleanExample(c) + exampleFiles
			file := t.TempDir() + "/example.txt"
			writeTestFile(t, file, script)
			runScript(t, file)
		})
	}
}

// examplePreamble makes what examples begin with, unless they make it themselves.
const examplePreamble = `mkdir rootfs/bin
cp hello rootfs/bin/hello
ocikit tar rootfs -o layer.tar
ocikit config --layer layer.tar -o config.json
ocikit init app
ocikit layer app layer.tar | ocikit config app | ocikit manifest app | ocikit tag app:latest
`

const exampleFiles = "-- hello --\n#!/bin/sh\necho hello\n"

func cleanExample(c Command) string {
	var b strings.Builder
	for line := range strings.Lines(c.Example) {
		b.WriteString(strings.TrimRight(line, "\n") + "\n")
	}
	return b.String()
}
