package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// statuses explains the exit statuses, for help and the manual.
const statuses = `0 done, or yes; 1 the input is wrong, or the answer is no; 2 the command line is wrong, nothing was read or written; 3 try again later; 4 not there; 5 not allowed; 130 interrupted`

func helpCommand() Command {
	return Command{
		Name: "help", Args: "[COMMAND|TOPIC]", Group: groupHelp,
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
					return writeMan(env.Stdout)
				case *readme:
					return writeReadmeList(env.Stdout)
				case len(args) == 0:
					return writeHelp(env.Stdout)
				}
				return helpOn(env.Stdout, args)
			}
		},
	}
}

func helpOn(w io.Writer, args []string) error {
	name := strings.Join(args, " ")
	table := commands()
	if i := slices.IndexFunc(table, func(c Command) bool { return c.Name == name }); i >= 0 {
		return writeUsage(w, table[i])
	}
	found := false
	for _, c := range table {
		if strings.HasPrefix(c.Name, name+" ") {
			found = true
			if _, err := fmt.Fprintf(w, "ocikit %-18s %s\n", c.Name, c.Short); err != nil {
				return err
			}
		}
	}
	if topic, ok := findTopic(name); ok {
		return writeTopic(w, topic)
	}
	if !found {
		return &usageError{msg: fmt.Sprintf("no command and no topic is called %q", name), hint: suggestTopic(name, table)}
	}
	return nil
}

func writeHelp(w io.Writer) error {
	var b strings.Builder
	b.WriteString("ocikit builds, checks, carries and pushes OCI images: one step a command, joined by pipes.\n\n" +
		"  ocikit init app\n" +
		"  ocikit tar ./rootfs | ocikit layer app | ocikit config app --cmd /bin/sh |\n" +
		"      ocikit manifest app | ocikit tag app:latest\n" +
		"  ocikit push app:latest localhost:5000/app:latest\n")
	for _, g := range groups() {
		fmt.Fprintf(&b, "\n%s\n", g)
		for _, c := range commands() {
			if c.Group == g {
				fmt.Fprintf(&b, "  %-18s %s\n", c.Name, c.Short)
			}
		}
	}
	b.WriteString("\nTopics\n")
	for _, t := range topics() {
		fmt.Fprintf(&b, "  %-18s %s\n", t.Name, t.Short)
	}
	b.WriteString("\n`ocikit COMMAND -h` explains a command, `ocikit help TOPIC` a topic. Exit status:\n")
	b.WriteString(wrap(statuses, "  ", 88))
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

// writeUsage prints what -h prints.
func writeUsage(w io.Writer, c Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: %s\n\n", synopsis(c))
	writeBlocks(&b, c.Long)
	b.WriteString("\n")
	b.WriteString("Flags:\n")
	for _, f := range flagsOf(c) {
		head := f.head()
		text := wrap(f.usage, strings.Repeat(" ", 26), 88)
		if len(head) < 24 {
			text = fmt.Sprintf("  %-24s", head) + strings.TrimLeft(text, " ")
		} else {
			text = "  " + head + "\n" + text
		}
		b.WriteString(text)
	}
	writeExample(&b, c.Example)
	if c.Status != "" {
		b.WriteString("\nExit status:\n" + wrap(c.Status, "  ", 88))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeExample(b *strings.Builder, example string) {
	b.WriteString("\nExample:\n")
	for line := range strings.Lines(example) {
		b.WriteString("  " + line)
	}
	b.WriteString("\n")
}

// writeTopic prints a page about a topic.
func writeTopic(w io.Writer, t Topic) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s\n\n", t.Name, t.Short)
	writeBlocks(&b, t.Text)
	writeExample(&b, t.Example)
	_, err := io.WriteString(w, b.String())
	return err
}

// writeBlocks writes paragraphs, filled, and lines that stand as they are.
func writeBlocks(b *strings.Builder, text string) {
	for i, block := range textBlocks(text) {
		if i > 0 {
			b.WriteString("\n")
		}
		if block.verbatim {
			b.WriteString(block.text + "\n")
			continue
		}
		b.WriteString(wrap(block.text, "", 88))
	}
}

// wrap breaks text into lines of at most width bytes, each with the indent in front.
func wrap(text, indent string, width int) string {
	var b strings.Builder
	line := indent
	for _, word := range strings.Fields(text) {
		if len(line) > len(indent) && len(line)+1+len(word) > width {
			b.WriteString(line + "\n")
			line = indent
		}
		if len(line) > len(indent) {
			line += " "
		}
		line += word
	}
	return b.String() + line + "\n"
}

// A flagDoc describes a flag for people: its names, the name of its value, what it does.
type flagDoc struct {
	names       []string // with dashes, the short one first
	value       string   // "" for a flag without one
	optionalArg bool
	usage       string
}

func (f flagDoc) head() string {
	head := strings.Join(f.names, ", ")
	switch {
	case f.optionalArg:
		return head + "[=" + f.value + "]"
	case f.value != "":
		return head + " " + f.value
	}
	return head
}

// flagsOf returns the flags of a command, sorted by name, short names joined to their long
// ones.
func flagsOf(c Command) []flagDoc {
	fs := newFlagSet(c, new(Env))
	c.Bind(fs)
	short := map[string]string{}
	fs.VisitAll(func(f *flag.Flag) {
		if long, ok := strings.CutPrefix(f.Usage, "short for --"); ok {
			short[long] = f.Name
		}
	})
	var docs []flagDoc
	fs.VisitAll(func(f *flag.Flag) {
		if strings.HasPrefix(f.Usage, "short for --") {
			return
		}
		value, usage := flag.UnquoteUsage(f)
		doc := flagDoc{names: []string{dashed(f.Name)}, usage: usage + defaultOf(f)}
		if s, ok := short[f.Name]; ok {
			doc.names = []string{dashed(s), dashed(f.Name)}
		}
		if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
			doc.optionalArg = strings.Contains(f.Usage, "`")
		}
		if doc.optionalArg || !isBool(f) {
			doc.value = strings.ToUpper(value)
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

// writeReadmeList prints the list of commands as README.md holds it.
func writeReadmeList(w io.Writer) error {
	var b strings.Builder
	for i, g := range groups() {
		if i > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "**%s**\n\n| command | does |\n|---|---|\n", g)
		for _, c := range commands() {
			if c.Group == g {
				args := strings.ReplaceAll(c.Args, "|", `\|`)
				fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimSpace("ocikit "+c.Name+" "+args), c.Short)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
