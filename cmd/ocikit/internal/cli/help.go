package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
)

// statuses explains the exit statuses, for help and the manual.
const statuses = `0 done, or yes; 1 the input is wrong, or the answer is no; 2 the command line is wrong, nothing was read or written; 3 try again later; 4 not there; 5 not allowed; 130 interrupted`

// HelpCommand returns the command that lists the others and explains one. It reads p when it runs.
func HelpCommand(p *Program) Command {
	return Command{
		Name: "help", Args: "[COMMAND|TOPIC]", Group: GroupHelp, AnyOperands: true,
		Short: "list the commands and topics, or explain one",
		Long: `Help lists the commands with a line each, then the topics. With the name of a command it prints what
"ocikit COMMAND -h" prints, with that of a topic the page about it. --man prints the manual page,
--readme the list of commands in README.md.`,
		Example: "ocikit help layer\nocikit help descriptors",
		Bind: func(fs *flag.FlagSet) Action {
			man := fs.Bool("man", false, "print the manual page (roff)")
			readme := fs.Bool("readme", false, "print the list of commands in Markdown")
			return func(ctx context.Context, env *Env, args []string) error {
				switch {
				case *man:
					return p.WriteMan(env.Stdout)
				case *readme:
					return p.WriteReadmeList(env.Stdout)
				case len(args) == 0:
					return p.writeHelp(env.Stdout, env.width())
				}
				return p.helpOn(env.Stdout, env.width(), args)
			}
		},
	}
}

func (p *Program) helpOn(w io.Writer, width int, args []string) error {
	name := strings.Join(args, " ")
	if i := slices.IndexFunc(p.Commands, func(c Command) bool { return c.Name == name }); i >= 0 {
		return p.writeUsage(w, width, p.Commands[i])
	}

	// A word that begins several commands, as upload, lists its steps. It may be that of a topic as
	// well.
	found := false
	for _, c := range p.Commands {
		if strings.HasPrefix(c.Name, name+" ") {
			found = true
			if _, err := io.WriteString(w, show.Columns(fmt.Sprintf("ocikit %-18s  %s", c.Name, c.Short), width)); err != nil {
				return err
			}
		}
	}

	if topic, ok := p.FindTopic(name); ok {
		return writeTopic(w, width, topic)
	}

	if !found {
		return &UsageError{Msg: fmt.Sprintf("no command and no topic is called %q", name), Advice: p.suggestTopic(name)}
	}

	return nil
}

func (p *Program) writeHelp(w io.Writer, width int) error {
	var b strings.Builder
	b.WriteString(show.Wrap("ocikit builds, checks, carries and pushes OCI images: one step a command, joined by pipes.", "", width) + "\n" +
		"  ocikit init app\n" +
		"  ocikit tar ./rootfs | ocikit layer app | ocikit config app --cmd /bin/sh |\n" +
		"      ocikit manifest app | ocikit tag app:latest\n" +
		"  ocikit push app:latest localhost:5000/app:latest\n")

	for _, g := range Groups() {
		fmt.Fprintf(&b, "\n%s\n", g)
		for _, c := range p.Commands {
			if c.Group == g {
				b.WriteString(show.Columns(fmt.Sprintf("  %-18s  %s", c.Name, c.Short), width))
			}
		}
	}

	b.WriteString("\nTopics\n")
	for _, t := range p.Topics {
		b.WriteString(show.Columns(fmt.Sprintf("  %-18s  %s", t.Name, t.Short), width))
	}

	b.WriteString("\n" + show.Wrap("`ocikit COMMAND -h` explains a command, `ocikit help TOPIC` a topic. Exit status:", "", width))
	b.WriteString(show.Wrap(statuses, "  ", width))
	_, err := io.WriteString(w, b.String())
	return err
}

func synopsis(c Command) string {
	s := "ocikit " + c.Name + " [FLAGS]"
	if c.Args != "" {
		s += " " + c.Args
	}
	return s
}

// defaultWidth is how wide help is where it goes to no terminal.
const defaultWidth = 78

// width is how wide help may be: as wide as the terminal, within what is pleasant to read.
func (e *Env) width() int {
	if e.OutWidth <= 0 {
		return defaultWidth
	}
	return min(max(e.OutWidth-1, 40), 100)
}

// writeUsage prints what -h prints.
func (p *Program) writeUsage(w io.Writer, width int, c Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s\n\n", synopsis(c))
	writeBlocks(&b, c.Long, width)

	// Flags of its own come first, then those that it shares with many commands.
	own, shared := p.flagsOf(c)
	if len(own) > 0 {
		writeFlags(&b, "Flags:", own, width)
	}

	for _, s := range shared {
		writeFlags(&b, s.title+":", s.flags, width)
	}

	writeExample(&b, c.Example)
	if c.Status != "" {
		b.WriteString("\nExit status:\n" + show.Wrap(c.Status, "  ", width))
	}

	_, err := io.WriteString(w, b.String())
	return err
}

// writeFlags lists flags, with what they do in a column of its own, or below if it is narrow.
func writeFlags(b *strings.Builder, title string, flags []FlagDoc, width int) {
	column := 26
	if width < 60 {
		column = 8
	}

	b.WriteString("\n" + title + "\n")
	for _, f := range flags {
		head := "  " + f.Head()
		text := show.Wrap(f.Usage, strings.Repeat(" ", column), width)
		if len(head) <= column-2 {
			text = fmt.Sprintf("%-*s", column, head) + strings.TrimLeft(text, " ")
		} else {
			text = head + "\n" + text
		}
		b.WriteString(text)
	}
}

func writeExample(b *strings.Builder, example string) {
	b.WriteString("\nExample:\n")
	for line := range strings.Lines(example) {
		b.WriteString("  " + line)
	}
	b.WriteString("\n")
}

// writeTopic prints a page about a topic.
func writeTopic(w io.Writer, width int, t Topic) error {
	var b strings.Builder
	b.WriteString(show.Wrap(t.Name+": "+t.Short, "", width) + "\n")
	writeBlocks(&b, t.Text, width)
	writeExample(&b, t.Example)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeBlocks writes paragraphs, filled, and lines that stand as they are, but for the last of
// their columns.
func writeBlocks(b *strings.Builder, text string, width int) {
	for i, block := range textBlocks(text) {
		if i > 0 {
			b.WriteString("\n")
		}
		if !block.verbatim {
			b.WriteString(show.Wrap(block.text, "", width))
			continue
		}
		for line := range strings.Lines(block.text + "\n") {
			b.WriteString(show.Columns(strings.TrimRight(line, "\n"), width))
		}
	}
}

// A FlagDoc describes a flag for people: its names, the name of its value, what it does.
type FlagDoc struct {
	Names       []string // with dashes, the short one first
	Value       string   // "" for a flag without one
	optionalArg bool
	Usage       string
}

// Head returns names and value as help writes them: "-o FILE", "--trace[=FILE]".
func (f FlagDoc) Head() string {
	head := strings.Join(f.Names, ", ")
	switch {
	case f.optionalArg:
		return head + "[=" + f.Value + "]"
	case f.Value != "":
		return head + " " + f.Value
	}
	return head
}

// SharedFlags are flags that many commands have. The manual and help list them apart.
type SharedFlags struct {
	Title string
	Bind  func(fs *flag.FlagSet)
}

// flags describes the flags, sorted by name.
func (s SharedFlags) flags() []FlagDoc {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	s.Bind(fs)
	return docsOf(fs)
}

// flagsOf returns the flags that a command has for itself, and those that it shares, as
// [Program.Shared] groups them.
func (p *Program) flagsOf(c Command) (own []FlagDoc, shared []flagSection) {
	own = FlagsOf(c)
	for _, s := range p.Shared {
		// A flag of the same name with another text means something else here, and stays with its
		// own.
		known := s.flags()
		isKnown := func(f FlagDoc) bool {
			return slices.ContainsFunc(known, func(k FlagDoc) bool { return k.Head() == f.Head() && k.Usage == f.Usage })
		}
		section := flagSection{title: s.Title}
		for _, f := range own {
			if isKnown(f) {
				section.flags = append(section.flags, f)
			}
		}
		if own = slices.DeleteFunc(own, isKnown); len(section.flags) > 0 {
			shared = append(shared, section)
		}
	}

	return own, shared
}

// A flagSection is a part of the list of flags.
type flagSection struct {
	title string
	flags []FlagDoc
}

// FlagsOf returns the flags of a command, sorted by name. A short name stands with its long one.
func FlagsOf(c Command) []FlagDoc {
	fs := newFlagSet(c, new(Env))
	c.Bind(fs)
	return docsOf(fs)
}

// docsOf describes the flags of a set.
func docsOf(fs *flag.FlagSet) []FlagDoc {
	// An alias is a flag of its own, whose usage says what it stands for.
	alias := map[string]string{}
	fs.VisitAll(func(f *flag.Flag) {
		if name, ok := strings.CutPrefix(f.Usage, isAlias); ok {
			alias[name] = f.Name
		}
	})

	var docs []FlagDoc
	fs.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Usage, isAlias) {
			return
		}

		value, usage := flag.UnquoteUsage(f)
		doc := FlagDoc{Names: []string{Dashed(f.Name)}, Usage: usage + defaultOf(f)}
		if s, ok := alias[f.Name]; ok {
			doc.Names = []string{Dashed(s), Dashed(f.Name)}
		}

		// A flag of no value that names one in its usage may have it, as --trace[=FILE].
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			doc.optionalArg = strings.Contains(f.Usage, "`")
		}

		if doc.optionalArg || !isBool(f) {
			doc.Value = strings.ToUpper(value)
		}

		docs = append(docs, doc)
	})

	return docs
}

// defaultOf says what a flag is if it is not given, where its usage does not. No value, 0 and
// -1 stand for none.
func defaultOf(f *flag.Flag) string {
	if slices.Contains([]string{"", "0", "-1", "0s"}, f.DefValue) || isBool(f) || strings.Contains(f.Usage, "default") {
		return ""
	}
	return fmt.Sprintf(" (default %s)", strings.TrimSuffix(f.DefValue, "0m0s"))
}

func isBool(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// WriteReadmeList prints the list of commands as README.md holds it, a line for each group.
func (p *Program) WriteReadmeList(w io.Writer) error {
	var b strings.Builder
	for _, g := range Groups() {
		var words []string
		for _, c := range p.Commands {
			if c.Group == g {
				words = append(words, fmt.Sprintf("`%s` (%s)", c.Name, c.Short))
			}
		}
		fmt.Fprintf(&b, "- **%s**: %s\n", g, strings.Join(words, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
