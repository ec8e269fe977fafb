package cli

import (
	"flag"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/layout"
)

// A Completion is a word that may stand where the cursor is, and what it means. A word that
// ends with one of ":/=," goes on.
type Completion struct{ Word, Short string }

// A Completer is the value of a flag that knows what it may be. Complete returns what may begin
// with the word; others are dropped.
type Completer interface {
	Complete(word string) []Completion
}

// Words returns completions that need no explanation.
func Words(words ...string) []Completion {
	list := make([]Completion, len(words))
	for i, w := range words {
		list[i].Word = w
	}
	return list
}

// Complete returns what the last of words may be completed to, where words is a command line
// without the program. It reads directories and index.json of layouts, and never fails: where
// it knows nothing it returns nothing.
func (p *Program) Complete(env *Env, words []string) []Completion {
	if len(words) == 0 {
		return nil
	}

	before, word := words[:len(words)-1], words[len(words)-1]
	c := completer{program: p, env: env}
	cmd, rest, err := p.Find(before)
	switch {
	case err != nil && len(before) == 0:
		c.commands("")
	case err != nil && len(before) == 1:
		c.commands(before[0] + " ")
	case err == nil:
		c.operandsOf(cmd, rest, word)
	}

	return slices.DeleteFunc(c.found, func(f Completion) bool { return !strings.HasPrefix(f.Word, word) })
}

type completer struct {
	program *Program
	env     *Env
	found   []Completion
}

func (c *completer) add(short string, words ...string) {
	for _, w := range words {
		c.found = append(c.found, Completion{w, short})
	}
}

// commands adds the commands, or the steps of one like "upload ".
func (c *completer) commands(first string) {
	for _, cmd := range c.program.Commands {
		name, ok := strings.CutPrefix(cmd.Name, first)
		if !ok {
			continue
		}
		word, _, steps := strings.Cut(name, " ")
		short := cmd.Short
		if steps {
			short = string(cmd.Group)
		}
		if !slices.ContainsFunc(c.found, func(f Completion) bool { return f.Word == word }) {
			c.add(short, word)
		}
	}
}

// operandsOf adds what may follow the words behind a command: flags, the value of a flag, or
// an operand.
func (c *completer) operandsOf(cmd Command, rest []string, word string) {
	fs := newFlagSet(cmd, new(Env))
	cmd.Bind(fs)

	// The words before tell whether a flag waits for its value, and which operand comes next.
	operands, ended := []string(nil), false
	for i := 0; i < len(rest); i++ {
		name, hasValue, isFlag := cutFlag(rest[i])
		switch {
		case ended || !isFlag:
			operands = append(operands, rest[i])
		case rest[i] == "--":
			ended = true
		case !hasValue && wantsValue(fs, name) && i == len(rest)-1:
			c.value(fs, name, word, "")
			return
		case !hasValue && wantsValue(fs, name):
			i++
		}
	}

	switch name, hasValue, isFlag := cutFlag(word); {
	case isFlag && !ended && hasValue:
		head, value, _ := strings.Cut(word, "=")
		c.value(fs, name, value, head+"=")
	case (isFlag || word == "-") && !ended:
		for _, f := range FlagsOf(cmd) {
			c.add(f.Usage, f.Names[len(f.Names)-1])
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
func (c *completer) value(fs *flag.FlagSet, name, word, head string) {
	f := fs.Lookup(name)
	if f == nil {
		return
	}

	if long, ok := strings.CutPrefix(f.Usage, isAlias); ok {
		f = fs.Lookup(long)
	}

	inner := completer{program: c.program, env: c.env}
	kind, _ := flag.UnquoteUsage(f)
	if known, ok := f.Value.(Completer); ok {
		inner.found = known.Complete(word)
	} else {
		inner.kind(strings.ToUpper(kind), word)
	}

	for _, v := range inner.found {
		c.add(v.Short, head+v.Word)
	}

	if head != "" { // the caller compares with the whole word
		c.found = slices.DeleteFunc(c.found, func(f Completion) bool { return !strings.HasPrefix(f.Word, head+word) })
	}
}

// operand adds what stands at the place of the next operand, by the synopsis.
func (c *completer) operand(cmd Command, before []string, word string) {
	places := strings.Fields(cmd.Args)
	if len(places) == 0 {
		return
	}

	// The place of a synopsis that has dots stands for all that follow.
	repeated := slices.IndexFunc(places, func(p string) bool { return strings.Contains(p, "...") })
	place := places[len(places)-1]
	switch {
	case len(before) < len(places):
		place = places[len(before)]
	case repeated >= 0:
		place = places[repeated]
	case cmd.Name != "help":
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
		for _, t := range c.program.Topics {
			c.add(t.Short, t.Name)
		}
	default:
		if kind == strings.ToLower(kind) && kind != "-" { // the very word, as in bash|zsh|fish
			c.add("", kind)
		}
	}

	slices.SortFunc(c.found, func(a, b Completion) int { return strings.Compare(a.Word, b.Word) })
	c.found = slices.CompactFunc(c.found, func(a, b Completion) bool { return a.Word == b.Word })
}

// images adds directories, and the names in a layout: behind its colon or "@", or if the
// word can mean no other directory.
func (c *completer) images(word string) {
	c.paths(word, false)

	// A word that can only become one layout goes on with the names in it.
	if len(c.found) == 1 && c.found[0].Short == layoutShort {
		word = c.found[0].Word
	}

	// The names are added to the word as it was typed, so a prefix stays.
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
		if tag := d.Annotations.Get(oci.AnnotationRefName); tag != "" && show.Printable(tag) == tag {
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
		if !strings.HasPrefix(name, base) || strings.HasPrefix(name, ".") && base == "" || show.Printable(name) != name {
			continue
		}
		info, err := os.Stat(filepath.Join(c.expand(dir), name)) // a link to a directory is one
		switch {
		case err != nil:
		case info.IsDir() && Exists(filepath.Join(c.expand(dir), name, "oci-layout")):
			c.add(layoutShort, dir+name)
		case info.IsDir():
			c.add("directory", dir+name+"/")
		case files:
			c.add(fmt.Sprintf("%d bytes", info.Size()), dir+name)
		}
	}
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
