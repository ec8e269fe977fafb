package cli

import (
	"fmt"
	"slices"
	"strings"
)

// A Topic is one page of "ocikit help" that explains what several commands have in common.
type Topic struct {
	Name    string // one word that is not a command
	Short   string // noun phrase, lower case, no full stop
	Text    string // paragraphs, split by blank lines; a line that is indented stands as it is
	Example string // as in [Command]
}

// StatusText is the list of exit statuses as paragraphs of a topic.
func StatusText() string {
	var b strings.Builder
	for s := range strings.SplitSeq(statuses, "; ") {
		status, text, _ := strings.Cut(s, " ")
		fmt.Fprintf(&b, "  %-4s %s\n", status, text)
	}
	return strings.TrimRight(b.String(), "\n")
}

// FindTopic returns the topic of that name.
func (p *Program) FindTopic(name string) (Topic, bool) {
	i := slices.IndexFunc(p.Topics, func(t Topic) bool { return t.Name == name })
	if i < 0 {
		return Topic{}, false
	}
	return p.Topics[i], true
}

// A textBlock is a paragraph to be filled, or lines that stand as they are.
type textBlock struct {
	text     string
	verbatim bool
}

// textBlocks splits the text of a topic.
func textBlocks(s string) []textBlock {
	var blocks []textBlock
	for p := range strings.SplitSeq(s, "\n\n") {
		if strings.HasPrefix(p, "  ") {
			blocks = append(blocks, textBlock{p, true})
			continue
		}
		blocks = append(blocks, textBlock{strings.Join(strings.Fields(p), " "), false})
	}
	return blocks
}
