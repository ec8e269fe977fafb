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

func TestHelpNamesDefaults(t *testing.T) {
	for _, c := range []struct{ name, flag, want string }{
		{"gc", "--min-age", "(default 1h)"},
		{"push", "--timeout", "(default 30s)"},
		{"gzip", "--level", "(default 6)"},
		{"serve", "--listen", "(default 127.0.0.1:5000)"},
		{"gzip", "-j", ""},          // 0 is explained
		{"files", "--layer", ""},    // -1 is no layer
		{"append", "--created", ""}, // its usage says it
		{"verify", "--repair-from", ""},
	} {
		i := slices.IndexFunc(commands(), func(cmd Command) bool { return cmd.Name == c.name })
		flags := flagsOf(commands()[i])
		f := flags[slices.IndexFunc(flags, func(f flagDoc) bool { return slices.Contains(f.names, c.flag) })]
		if c.want != "" && !strings.HasSuffix(f.usage, c.want) || c.want == "" && strings.Contains(f.usage, "(default") {
			t.Errorf("%s %s: %q, want %q at its end", c.name, c.flag, f.usage, c.want)
		}
	}
}

func TestTopics(t *testing.T) {
	_, list, _ := runOcikit(t.Context(), nil, "help")
	for _, topic := range topics() {
		if slices.ContainsFunc(commands(), func(c Command) bool { return strings.Fields(c.Name)[0] == topic.Name }) {
			t.Errorf("%s: the topic has the name of a command", topic.Name)
		}
		if topic.Short == "" || topic.Text == "" || topic.Example == "" {
			t.Errorf("%s: no Short, no Text or no Example", topic.Name)
		}
		if !strings.Contains(list, "\n  "+topic.Name+" ") {
			t.Errorf("ocikit help does not list %s", topic.Name)
		}
		status, out, errs := runOcikit(t.Context(), nil, "help", topic.Name)
		if status != 0 || errs != "" || !strings.HasPrefix(out, topic.Name+": ") {
			t.Errorf("ocikit help %s: status %d, stdout %q, stderr %q", topic.Name, status, out, errs)
		}
		for line := range strings.Lines(out) {
			if len(line) > 120 {
				t.Errorf("ocikit help %s: a line of %d bytes: %s", topic.Name, len(line), line)
			}
		}
	}
}

// What hints name must be there: commands, their flags, and topics.
func TestHintsOfForeignWords(t *testing.T) {
	table := commands()
	var hints []string
	for _, w := range foreignWords() {
		if slices.ContainsFunc(table, func(c Command) bool { return c.Name == w.word }) {
			t.Errorf("%s is a command", w.word)
		}
		hints = append(hints, w.hint)
	}
	for _, first := range []string{"upload", "registry"} {
		for _, w := range foreignSteps(first) {
			if slices.ContainsFunc(table, func(c Command) bool { return c.Name == first+" "+w.word }) {
				t.Errorf("%s %s is a command", first, w.word)
			}
			hints = append(hints, w.hint)
		}
	}
	for _, f := range foreignFlags() {
		hints = append(hints, f.hint)
		for _, c := range table {
			if !f.means(c.Name) {
				continue
			}
			for _, name := range strings.Fields(f.names) {
				if slices.Contains(flagWords(c), dashed(name)) && !strings.Contains(f.hint, dashed(name)) {
					t.Errorf("%s has a flag %s, and a hint for it", c.Name, dashed(name))
				}
			}
		}
	}
	for _, hint := range hints {
		for _, line := range regexp.MustCompile("`ocikit [^`]+`").FindAllString(hint, -1) {
			line, _, _ = strings.Cut(strings.Trim(line, "`"), " | ")
			words := strings.Fields(line)[1:]
			cmd, rest, err := find(table, words)
			if err != nil && words[0] != "COMMAND" {
				t.Errorf("hint %q: %v", hint, err)
				continue
			}
			if _, isTopic := findTopic(strings.Join(rest, " ")); cmd.Name == "help" && len(rest) > 0 && !isTopic {
				t.Errorf("hint %q: no such topic", hint)
			}
			for _, word := range rest {
				if strings.HasPrefix(word, "-") && !slices.Contains(flagWords(cmd), word) {
					t.Errorf("hint %q: %s has no flag %s", hint, cmd.Name, word)
				}
			}
		}
	}
}

// flagWords returns the flags of a command as words.
func flagWords(c Command) []string {
	var words []string
	for _, f := range flagsOf(c) {
		words = append(words, f.names...)
	}
	return slices.Concat(words, []string{"-h"})
}

func TestSuggestions(t *testing.T) {
	for _, c := range []struct{ line, hint string }{
		{"verfiy", "did you mean `ocikit verify`?"},
		{"laier", "did you mean `ocikit layer`?"},
		{"unpack", "`ocikit extract IMAGE DIR`"},
		{"referrers", "did you mean `ocikit registry referrers`?"},
		{"--layer", "flags stand behind the command"},
		{"zzzzzz", "`ocikit help` lists the commands"},
		{"upload strat", "did you mean `ocikit upload start`?"},
		{"upload zzzzzz", "the steps are start, chunk"},
		{"upload", "the steps are start, chunk"},
		{"registry ls", "did you mean `ocikit registry tags`?"},
		{"registry manifest", "`ocikit registry get REF`"},
		{"registry login", "`ocikit help credentials`"},
		{"registry zzzzzz", "the steps are ping, token"},
		{"upload patch", "did you mean `ocikit upload chunk`?"},
		{"retag app:a app:b", "`ocikit copy LAYOUT:OLD LAYOUT:NEW`"},
		{"help statsu", "did you mean `ocikit help status`?"},
		{"help verfiy", "did you mean `ocikit verify`?"},
		{"help login", "`ocikit help credentials`"},
		{"tar --exlude x", "did you mean --exclude?"},
		{"cat --owner 0:0", "--owner is a flag of tar"},
		{"push --creds user:pass", "--password-stdin"},
		{"push -u user:pass", "--password-stdin"},
		{"append app -f layer.tar", "--layer FILE"},
		{"mutate app --config.env A=b", "did you mean --env?"},
		{"mutate app --config-entrypoint x", "did you mean --entrypoint?"},
		{"mutate app --config.workingdir /", "--workdir"},
		{"gzip -9 layer.tar", "--level N"},
		{"gc app --dry-run", "unless --delete"},
		{"put app --blob x", "--blob is a flag of registry head"},
		{"index app -t multi", "`ocikit tag LAYOUT:TAG`"},
		{"load app -t multi", "LAYOUT:TAG"},
		{"copy app app --all-platforms", "every platform"},
		{"init --zzzzzz", "usage: ocikit init"},
	} {
		status, out, errs := runOcikit(t.Context(), nil, strings.Fields(c.line)...)
		if status != 2 || out != "" || !strings.Contains(errs, "\nhint: ") || !strings.Contains(errs, c.hint) {
			t.Errorf("ocikit %s: status %d, stderr %q, want the hint %q", c.line, status, errs, c.hint)
		}
	}
}

// The examples of help are what newcomers type first: each must run as it stands, beside a
// tree, an image and a registry as README makes them.
func TestExamples(t *testing.T) {
	examples := map[string]string{}
	for _, c := range commands() {
		examples[c.Name] = c.Example
	}
	for _, topic := range topics() {
		examples["help "+topic.Name] = topic.Example
	}
	for name, example := range examples {
		if name == "serve" {
			continue // it does not end by itself; see TestServeExample
		}
		t.Run(name, func(t *testing.T) {
			file := t.TempDir() + "/example.txt"
			body := strings.ReplaceAll(example, "localhost:5000", "$REGISTRY") + "\n"
			if body != example+"\n" {
				body = exampleRegistry + body
			}
			writeTestFile(t, file, examplePreamble+body+exampleFiles)
			runScript(t, file)
		})
	}
}

func TestServeExample(t *testing.T) {
	t.Chdir(t.TempDir())
	args := strings.Fields(serveCommand().Example)
	if len(args) < 3 || args[1] != "serve" || args[len(args)-1] != "127.0.0.1:5000" {
		t.Fatalf("example %q: want one with the address at its end", args)
	}
	address := startServe(t, args[2:len(args)-2]...) // on a free port
	if status, _, errs := runOcikit(t.Context(), nil, "registry", "ping", address); status != 0 {
		t.Errorf("ping %s: status %d, %s", address, status, errs)
	}
}

// examplePreamble makes what examples begin with.
const examplePreamble = `mkdir rootfs/bin
cp hello rootfs/bin/hello
ocikit tar rootfs -o layer.tar
ocikit gzip layer.tar -o layer.tar.gz
ocikit config --layer layer.tar -o config.json
ocikit init app
ocikit layer app layer.tar | ocikit config app | ocikit manifest app | ocikit tag app:latest
`

const exampleRegistry = `registry REGISTRY layouts
ocikit push app $REGISTRY/hello:latest
ocikit push app $REGISTRY/hello:old
`

const exampleFiles = "-- hello --\n#!/bin/sh\necho hello\n-- hello.txt --\nhello\n-- sbom.json --\n{}\n"
