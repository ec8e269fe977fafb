package cli

import (
	"fmt"
	"slices"
	"strings"
)

// Foreign is what other tools call things.
type Foreign struct {
	Words []ForeignWord            // that are not commands here, sorted
	Steps map[string][]ForeignWord // the same of commands in two words, by the first
	Flags []ForeignFlag            // the first row that fits counts
}

// A ForeignWord is a command of other tools, and what it is called here.
type ForeignWord struct{ Word, Hint string }

// hintFor returns the hint for a word, or "".
func hintFor(words []ForeignWord, word string) string {
	if i := slices.IndexFunc(words, func(w ForeignWord) bool { return w.Word == word }); i >= 0 {
		return words[i].Hint
	}
	return ""
}

// suggest returns the hint for a word that is not a command.
func (p *Program) suggest(word string) string {
	if hint := hintFor(p.Foreign.Words, word); hint != "" {
		return hint
	}

	if strings.HasPrefix(word, "-") {
		return "flags stand behind the command: `ocikit COMMAND " + word + "`"
	}

	var names []string
	for _, c := range p.Commands {
		first, step, _ := strings.Cut(c.Name, " ")
		if step == word {
			return fmt.Sprintf("did you mean `ocikit %s`?", c.Name)
		}
		names = append(names, first)
	}

	if near := nearest(word, names); near != "" {
		return fmt.Sprintf("did you mean `ocikit %s`?", near)
	}

	return "`ocikit help` lists the commands"
}

// suggestTopic is suggest for what follows "ocikit help".
func (p *Program) suggestTopic(word string) string {
	var names []string
	for _, t := range p.Topics {
		names = append(names, t.Name)
	}
	if near := nearest(word, names); near != "" {
		return fmt.Sprintf("did you mean `ocikit help %s`?", near)
	}
	return p.suggest(word)
}

// suggestStep returns the hint for a word that is not a step of a command like "upload".
func (p *Program) suggestStep(first, word string, steps []string) string {
	if hint := hintFor(p.Foreign.Steps[first], word); hint != "" {
		return hint
	}
	if near := nearest(word, steps); near != "" {
		return fmt.Sprintf("did you mean `ocikit %s %s`?", first, near)
	}
	if hint := hintFor(p.Foreign.Words, word); hint != "" {
		return hint
	}
	return "the steps are " + strings.Join(steps, ", ")
}

// A ForeignFlag is what flags of other tools are called here.
type ForeignFlag struct {
	Names string // without dashes, joined by blanks
	Cmds  string // where they mean this, joined by commas; "" for every command
	Hint  string
}

// Means reports whether a row is about a command by name.
func (f ForeignFlag) Means(cmd string) bool { return slices.Contains(strings.Split(f.Cmds, ", "), cmd) }

// has reports whether a hint that begins with a flag begins with one of those that there are.
func (f ForeignFlag) has(own []string) bool {
	flag, _, _ := strings.Cut(f.Hint, " ")
	return !strings.HasPrefix(flag, "-") || slices.Contains(own, strings.Trim(flag, "-,"))
}

// hintForFlag returns the hint of the table, or "". Flags of umoci and regctl begin with the part
// of the image that they are about, as config.env or history.author: the last word is their name
// here.
func (p *Program) hintForFlag(cmd string, own []string, name string) string {
	for _, f := range p.Foreign.Flags {
		if slices.Contains(strings.Fields(f.Names), name) && (f.Cmds == "" || f.Means(cmd)) && f.has(own) {
			return f.Hint
		}
	}
	for _, part := range []string{"config.", "config-", "history.", "manifest."} {
		if word, ok := strings.CutPrefix(name, part); ok && slices.Contains(own, word) {
			return fmt.Sprintf("did you mean %s?", Dashed(word))
		}
	}
	return ""
}

// suggestFlag returns the hint for a flag that cmd does not have, or "".
func (p *Program) suggestFlag(cmd string, own []string, name string) string {
	if hint := p.hintForFlag(cmd, own, name); hint != "" {
		return hint
	}

	if near := nearest(name, own); near != "" {
		return fmt.Sprintf("did you mean %s?", Dashed(near))
	}

	// The flag may be that of another command.
	var others []string
	for _, c := range p.Commands {
		for _, f := range FlagsOf(c) {
			if slices.Contains(f.Names, Dashed(name)) {
				others = append(others, c.Name)
			}
		}
	}

	if len(others) == 0 {
		return ""
	}

	if len(others) > 4 {
		others = append(others[:4], "others")
	}

	return fmt.Sprintf("%s is a flag of %s; `ocikit %s -h` lists those of %s", Dashed(name), strings.Join(others, ", "), cmd, cmd)
}

// nearest returns the name that is at most two edits away from word, or "". A name of which half
// would have to change is not near.
func nearest(word string, names []string) string {
	best, bestName := 3, ""
	for _, n := range names {
		if d := distance(word, n); d < best && d < len(word) && 2*d <= max(len(n), 3) {
			best, bestName = d, n
		}
	}
	return bestName
}

// distance is the number of letters to insert, delete, replace or swap with their neighbour
// between a and b.
func distance(a, b string) int {
	// The table of distances is filled row by row. A swap looks back two rows.
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}

	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			d := last[j]
			if a[i] != b[j] {
				d++
			}
			d = min(d, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				d = min(d, before[j-1]+1)
			}
			row[j+1] = d
		}
		before, last = last, row
	}

	return last[len(b)]
}
