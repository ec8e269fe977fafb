package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

// The manual page and the list in README.md are made from the table of commands.
func TestGeneratedDocs(t *testing.T) {
	var man bytes.Buffer
	if err := program().WriteMan(&man); err != nil {
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
	if err := program().WriteReadmeList(&list); err != nil {
		t.Fatal(err)
	}
	compareGenerated(t, "../../README.md", head+begin+"\n"+list.String()+"\n"+end+tail)
}

func compareGenerated(t *testing.T, file, want string) {
	t.Helper()
	if *Update {
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
	for _, c := range commands() {
		if seen[c.Name] {
			t.Errorf("%s: twice in the table", c.Name)
		}
		seen[c.Name] = true
		if !slices.Contains(cli.Groups(), c.Group) {
			t.Errorf("%s: group %q is not listed", c.Name, c.Group)
		}
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || c.Short != strings.ToLower(c.Short[:1])+c.Short[1:] {
			t.Errorf("%s: Short %q: want a verb phrase, lower case, no full stop", c.Name, c.Short)
		}
		if c.Long == "" || c.Example == "" {
			t.Errorf("%s: no Long or no Example", c.Name)
		}
		file := strings.ReplaceAll(c.Name, " ", "") + ".go"
		found, _ := filepath.Glob("internal/*/" + file)
		if step, _ := filepath.Glob("internal/*/" + strings.Fields(c.Name)[0] + ".go"); len(found)+len(step) == 0 {
			t.Errorf("%s: no file %s", c.Name, file)
		}
		for _, f := range cli.FlagsOf(c) {
			if f.Usage == "" {
				t.Errorf("%s: flag %s has no usage", c.Name, f.Names[0])
			}
		}
	}
}

// severalMeanings are the flags that do not say the same in every command that has them, each with
// the number of its meanings and why there is more than one.
var severalMeanings = map[string]struct {
	count int
	why   string
}{
	"--arch":          {2, "config has a default"},
	"--artifact-type": {3, "what is made, what becomes of it, and what is listed"},
	"--author":        {2, "of an image, and of a layer"},
	"--check":         {3, "a digest, parts that have theirs, and what a registry has"},
	"--comment":       {2, "of a layer, and of a change without one"},
	"--compress":      {4, "flatten has nothing to keep, convert keeps unless told"},
	"--config":        {3, "an INPUT, a rule, and what to print"},
	"--created":       {3, "the default differs"},
	"--created-by":    {4, "the default differs"},
	"--exclude":       {3, "from what is written, from what is compared, and images of many"},
	"--expect":        {2, "untag expects a name"},
	"--force":         {2, "what is forced"},
	"--decompress":    {2, "a filter the other way, and a layer that is printed"},
	"--level":         {3, "of gzip, of zstd, and of either"},
	"--media-type":    {2, "of a descriptor, and of a request"},
	"--mode":          {2, "of files, and of uploads"},
	"--mtime":         {2, "the default differs"},
	"--only":          {2, "files, and probes"},
	"--os":            {2, "config has a default"},
	"--owner":         {2, "the default differs"},
	"--plain-http":    {2, "of a client, and of a server"},
	"--read-only":     {2, "of a client, and of a server"},
	"--page":          {2, "of tags, and of repositories"},
	"--sparse":        {3, "of blobs, of platforms, and of a server"},
	"--subject":       {2, "an INPUT, and an IMAGE"},
	"--tag":           {3, "the result, one more name, and a name in an archive"},
	"--timeout":       {2, "the default differs"},
	"--verify":        {2, "of what is linked, and of what is listed"},
	"-j":              {3, "blocks, blobs to read, blobs to move"},
	"-o":              {3, "a result, a tar, and a script"},
}

// A flag has one value word and one meaning wherever it stands, but for those of the table.
func TestFlags(t *testing.T) {
	meanings := map[string]map[string][]string{}
	for _, c := range commands() {
		for _, f := range cli.FlagsOf(c) {
			name := f.Names[len(f.Names)-1]
			if meanings[name] == nil {
				meanings[name] = map[string][]string{}
			}
			says := f.Head() + "\n      " + f.Usage
			meanings[name][says] = append(meanings[name][says], c.Name)
			if f.Value != "" && !strings.Contains(f.Usage, f.Value) {
				t.Errorf("%s: the usage of %s does not name its value %s", c.Name, name, f.Value)
			}
		}
	}
	for name, says := range meanings {
		want := 1
		if row, ok := severalMeanings[name]; ok {
			want = row.count
		}
		if len(says) == want {
			continue
		}
		t.Errorf("%s has %d meanings, want %d:", name, len(says), want)
		for usage, cmds := range says {
			t.Errorf("    %s\n      %s", usage, strings.Join(cmds, ", "))
		}
	}
	for name := range severalMeanings {
		if meanings[name] == nil {
			t.Errorf("no command has a flag %s", name)
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
				if len(line) > 79 && !strings.HasPrefix(line, "usage:") && !strings.HasPrefix(line, "  ocikit") {
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
		{"files", "--layer", ""},    // -1 is not a layer
		{"append", "--created", ""}, // its usage says it
		{"verify", "--repair-from", ""},
	} {
		i := slices.IndexFunc(commands(), func(cmd cli.Command) bool { return cmd.Name == c.name })
		flags := cli.FlagsOf(commands()[i])
		f := flags[slices.IndexFunc(flags, func(f cli.FlagDoc) bool { return slices.Contains(f.Names, c.flag) })]
		if c.want != "" && !strings.HasSuffix(f.Usage, c.want) || c.want == "" && strings.Contains(f.Usage, "(default") {
			t.Errorf("%s %s: %q, want %q at its end", c.name, c.flag, f.Usage, c.want)
		}
	}
}

func TestTopics(t *testing.T) {
	_, list, _ := runOcikit(t.Context(), nil, "help")
	for _, topic := range topics() {
		if slices.ContainsFunc(commands(), func(c cli.Command) bool { return strings.Fields(c.Name)[0] == topic.Name }) {
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
			if len(line) > 79 && !strings.HasPrefix(line, "  echo ") && !strings.HasPrefix(line, "  ocikit ") {
				t.Errorf("ocikit help %s: a line of %d bytes: %s", topic.Name, len(line), line)
			}
		}
	}
}

// What hints name must be there: commands, their flags, and topics.
func TestHintsOfForeignWords(t *testing.T) {
	table := commands()
	var hints []string
	for _, w := range foreign().Words {
		if slices.ContainsFunc(table, func(c cli.Command) bool { return c.Name == w.Word }) {
			t.Errorf("%s is a command", w.Word)
		}
		hints = append(hints, w.Hint)
	}
	for _, first := range []string{"upload", "registry"} {
		for _, w := range foreign().Steps[first] {
			if slices.ContainsFunc(table, func(c cli.Command) bool { return c.Name == first+" "+w.Word }) {
				t.Errorf("%s %s is a command", first, w.Word)
			}
			hints = append(hints, w.Hint)
		}
	}
	for _, f := range foreign().Flags {
		hints = append(hints, f.Hint)
		for _, c := range table {
			if !f.Means(c.Name) {
				continue
			}
			for _, name := range strings.Fields(f.Names) {
				if slices.Contains(flagWords(c), cli.Dashed(name)) && !strings.Contains(f.Hint, cli.Dashed(name)) {
					t.Errorf("%s has a flag %s, and a hint for it", c.Name, cli.Dashed(name))
				}
			}
		}
	}
	for _, hint := range hints {
		for _, line := range regexp.MustCompile("`ocikit [^`]+`").FindAllString(hint, -1) {
			line, _, _ = strings.Cut(strings.Trim(line, "`"), " | ")
			words := strings.Fields(line)[1:]
			cmd, rest, err := program().Find(words)
			if err != nil && words[0] != "COMMAND" {
				t.Errorf("hint %q: %v", hint, err)
				continue
			}
			if _, isTopic := program().FindTopic(strings.Join(rest, " ")); cmd.Name == "help" && len(rest) > 0 && !isTopic {
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
func flagWords(c cli.Command) []string {
	var words []string
	for _, f := range cli.FlagsOf(c) {
		words = append(words, f.Names...)
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
		{"registry login", "did you mean `ocikit login`?"},
		{"registry zzzzzz", "the steps are ping, token"},
		{"upload patch", "did you mean `ocikit upload chunk`?"},
		{"retag app:a app:b", "`ocikit copy LAYOUT:OLD LAYOUT:NEW`"},
		{"help statsu", "did you mean `ocikit help status`?"},
		{"help verfiy", "did you mean `ocikit verify`?"},
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

// Help is as wide as the terminal: nothing is broken inside a word, and only what stands as it is
// may be wider.
func TestHelpWidth(t *testing.T) {
	for _, columns := range []int{20, 50, 80, 200} {
		for _, name := range []string{"push", "credentials", "verify"} {
			var out strings.Builder
			env := &cli.Env{Stdout: &out, Stderr: &out, OutWidth: columns, Getenv: func(string) string { return "" }}
			if status := program().Run(t.Context(), env, []string{"help", name}); status != 0 {
				t.Fatalf("help %s: status %d, %s", name, status, out.String())
			}
			want := min(max(columns, 41), 101)
			for line := range strings.Lines(out.String()) {
				if len(line) > want && len(strings.Fields(line)) > 1 && !strings.HasPrefix(line, "usage:") && !strings.HasPrefix(line, "  ") {
					t.Errorf("%d columns: help %s: a line of %d: %s", columns, name, len(line), line)
				}
			}
		}
	}
}
