package main

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve"
)

// A completion is a word that may stand where the cursor is, and what it means. A word that
// ends with one of ":/=," goes on.
type completion struct{ word, short string }

// complete returns what the last of words may be completed to, where words is a command line
// without the program. It reads directories and index.json of layouts, and never fails: where
// it knows nothing it returns nothing.
func complete(env *Env, words []string) []completion {
	if len(words) == 0 {
		return nil
	}
	before, word := words[:len(words)-1], words[len(words)-1]
	c := completer{env: env}
	cmd, rest, err := find(commands(), before)
	switch {
	case err != nil && len(before) == 0:
		c.commands("")
	case err != nil && len(before) == 1:
		c.commands(before[0] + " ")
	case err == nil:
		c.operandsOf(cmd, rest, word)
	}
	return slices.DeleteFunc(c.found, func(f completion) bool { return !strings.HasPrefix(f.word, word) })
}

type completer struct {
	env   *Env
	found []completion
}

func (c *completer) add(short string, words ...string) {
	for _, w := range words {
		c.found = append(c.found, completion{w, short})
	}
}

// commands adds the commands, or the steps of one like "upload ".
func (c *completer) commands(first string) {
	for _, cmd := range commands() {
		name, ok := strings.CutPrefix(cmd.Name, first)
		if !ok {
			continue
		}
		word, _, steps := strings.Cut(name, " ")
		short := cmd.Short
		if steps {
			short = string(cmd.Group)
		}
		if !slices.ContainsFunc(c.found, func(f completion) bool { return f.word == word }) {
			c.add(short, word)
		}
	}
}

// operandsOf adds what may follow the words behind a command: flags, the value of a flag, or
// an operand.
func (c *completer) operandsOf(cmd Command, rest []string, word string) {
	fs := newFlagSet(cmd, new(Env))
	cmd.Bind(fs)
	operands, ended := []string(nil), false
	for i := 0; i < len(rest); i++ {
		name, hasValue, isFlag := cutFlag(rest[i])
		switch {
		case ended || !isFlag:
			operands = append(operands, rest[i])
		case rest[i] == "--":
			ended = true
		case !hasValue && wantsValue(fs, name) && i == len(rest)-1:
			c.value(cmd, fs, name, word, "")
			return
		case !hasValue && wantsValue(fs, name):
			i++
		}
	}
	switch name, hasValue, isFlag := cutFlag(word); {
	case isFlag && !ended && hasValue:
		head, value, _ := strings.Cut(word, "=")
		c.value(cmd, fs, name, value, head+"=")
	case (isFlag || word == "-") && !ended:
		for _, f := range flagsOf(cmd) {
			c.add(f.usage, f.names[len(f.names)-1])
		}
		c.add("explain the command", "-h")
	default:
		c.operand(cmd, operands, word)
	}
}

// cutFlag takes a word apart. "-" is an operand.
func cutFlag(word string) (name string, hasValue, isFlag bool) {
	if len(word) < 2 || word[0] != '-' {
		return "", false, false
	}
	name, _, hasValue = strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
	return name, hasValue, true
}

func wantsValue(fs *flag.FlagSet, name string) bool {
	f := fs.Lookup(name)
	return f != nil && !isBool(f)
}

// value adds what a flag takes, with head in front.
func (c *completer) value(cmd Command, fs *flag.FlagSet, name, word, head string) {
	f := fs.Lookup(name)
	if f == nil {
		return
	}
	if long, ok := strings.CutPrefix(f.Usage, "short for --"); ok {
		f = fs.Lookup(long)
	}
	inner := completer{env: c.env}
	kind, _ := flag.UnquoteUsage(f)
	switch choices := choicesOf(cmd.Name, f.Name); {
	case len(choices) > 0:
		inner.add("", choices...)
	case f.Name == "fault":
		inner.faults(word)
	default:
		inner.kind(strings.ToUpper(kind), word)
	}
	for _, v := range inner.found {
		c.add(v.short, head+v.word)
	}
	if head != "" { // the caller compares with the whole word
		c.found = slices.DeleteFunc(c.found, func(f completion) bool { return !strings.HasPrefix(f.word, head+word) })
	}
}

// choices is what a flag takes that takes one of a few words; of every command if none is
// named.
type choices struct {
	command, flag string
	words         []string
}

func allChoices() []choices {
	return []choices{
		{"flatten", "compress", []string{"gzip", "none", "estargz"}},
		{"", "compress", []string{"gzip", "none", "estargz", "keep"}},
		{"push", "mode", []string{"auto", "stream", "put", "chunk"}},
		{"", "mode", []string{"keep", "normalize"}},
		{"", "progress", []string{"auto", "plain", "json", "none"}},
		{"", "algorithm", []string{"sha256", "sha512"}},
		{"", "xattrs", []string{"security", "all", "none"}},
		{"rebase", "config", []string{"keep", "new-base", "merge"}},
		{"save", "format", []string{"both", "oci", "docker"}},
		{"serve", "log", []string{"text", "json", "none"}},
		{"diff", "ignore", []string{"type", "content", "mode", "owner", "times", "xattrs", "link"}},
		{"", "platform", []string{"linux/amd64", "linux/arm64", "linux/arm/v7", "linux/ppc64le", "linux/riscv64", "linux/s390x", "windows/amd64", "local"}},
	}
}

func choicesOf(command, flagName string) []string {
	for _, ch := range allChoices() {
		if ch.flag == flagName && (ch.command == "" || ch.command == command) {
			return ch.words
		}
	}
	return nil
}

// faults adds the names of faults, behind those that the word has already.
func (c *completer) faults(word string) {
	done := word[:strings.LastIndex(word, ",")+1]
	if done == "" {
		c.add("list the faults", "help")
	}
	for _, f := range serve.Faults() {
		if !slices.Contains(strings.Split(done, ","), f.Name) {
			c.add(f.Short, done+f.Name)
		}
	}
}

// operand adds what stands at the place of the next operand, by the synopsis.
func (c *completer) operand(cmd Command, before []string, word string) {
	places := strings.Fields(cmd.Args)
	if len(places) == 0 {
		return
	}
	place := places[len(places)-1]
	if len(before) < len(places) {
		place = places[len(before)]
	} else if !strings.HasSuffix(strings.TrimSuffix(place, "]"), "...") && cmd.Name != "help" {
		return
	}
	if cmd.Name == "help" && len(before) > 0 {
		c.commands(strings.Join(before, " ") + " ")
		return
	}
	place = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(place, "["), "]"), "...")
	for kind := range strings.SplitSeq(place, "|") {
		c.kind(kind, word)
	}
}

// kind adds what a word of the synopsis, or the value of a flag, stands for.
func (c *completer) kind(kind, word string) {
	switch kind {
	case "IMAGE", "LAYOUT[:TAG", "LAYOUT@DIGEST":
		c.images(word)
	case "LAYOUT", "DIR":
		c.paths(word, false)
	case "INPUT", "FILE", "TAR", "ARCHIVE", "SRC[:DEST]", "DESCRIPTOR":
		c.paths(word, true)
	case "OLD", "NEW":
		c.images(word)
		c.paths(word, true)
	case "COMMAND":
		c.commands("")
	case "TOPIC":
		for _, t := range topics() {
			c.add(t.Short, t.Name)
		}
	default:
		if kind == strings.ToLower(kind) && kind != "-" { // the very word, as in bash|zsh|fish
			c.add("", kind)
		}
	}
	slices.SortFunc(c.found, func(a, b completion) int { return strings.Compare(a.word, b.word) })
	c.found = slices.CompactFunc(c.found, func(a, b completion) bool { return a.word == b.word })
}

// images adds directories, and the names in a layout: behind its colon or "@", or if the
// word can mean no other directory.
func (c *completer) images(word string) {
	c.paths(word, false)
	if len(c.found) == 1 && c.found[0].short == layoutShort {
		word = c.found[0].word
	}
	prefix := ""
	for _, p := range []string{"oci:", "ocidir://"} {
		if strings.HasPrefix(word, p) {
			prefix = p
		}
	}
	dir := strings.TrimPrefix(word, prefix)
	if i := strings.IndexAny(dir, ":@"); i > 0 {
		dir = dir[:i]
	}
	l, err := layout.Open(c.expand(dir))
	if err != nil {
		return
	}
	defer l.Close()
	x, err := l.Index()
	if err != nil {
		return
	}
	for _, d := range x.Manifests {
		if tag := d.Annotations[oci.AnnotationRefName]; tag != "" && printable(tag) == tag {
			c.add(d.Digest.String(), prefix+dir+":"+tag)
		} else if strings.Contains(word, "@") {
			c.add(d.MediaType, prefix+dir+"@"+d.Digest.String())
		}
	}
}

const layoutShort = "layout"

// paths adds the entries of a directory that the word is in the middle of: directories, and
// files if they are wanted. A directory goes on, unless it is a layout.
func (c *completer) paths(word string, files bool) {
	dir, base := path.Split(word)
	entries, err := os.ReadDir(c.expand(dir))
	if err != nil {
		return
	}
	for _, e := range entries {
		name := e.Name()
		if !strings.HasPrefix(name, base) || strings.HasPrefix(name, ".") && base == "" || printable(name) != name {
			continue
		}
		info, err := os.Stat(filepath.Join(c.expand(dir), name)) // a link to a directory is one
		switch {
		case err != nil:
		case info.IsDir() && exists(filepath.Join(c.expand(dir), name, "oci-layout")):
			c.add(layoutShort, dir+name)
		case info.IsDir():
			c.add("directory", dir+name+"/")
		case files:
			c.add(fmt.Sprintf("%d bytes", info.Size()), dir+name)
		}
	}
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// expand replaces "~/", which shells leave to those who complete.
func (c *completer) expand(name string) string {
	if rest, ok := strings.CutPrefix(name, "~/"); ok {
		return filepath.Join(c.env.Getenv("HOME"), rest)
	}
	if name == "" {
		return "."
	}
	return name
}
