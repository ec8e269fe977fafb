package cli

import (
	"fmt"
	"io"
	"strings"

	"ocikit/cmd/ocikit/internal/show"
)

// WriteMan prints the manual page, in the man(7) macros that every roff reads.
func (p *Program) WriteMan(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`.\" Made by "ocikit help --man"; do not edit.
.TH OCIKIT 1 2026-11-26 "ocikit" "User Commands"
.SH NAME
ocikit \- build, check, carry and push OCI container images
.SH SYNOPSIS
.B ocikit
.I COMMAND
[FLAGS] [OPERANDS]
.SH DESCRIPTION
`)

	writeManText(&b, manDescription)
	b.WriteString(".SH COMMANDS\n")
	for _, c := range p.Commands {
		p.writeManCommand(&b, c)
	}

	for _, s := range p.Shared {
		fmt.Fprintf(&b, ".SH %s\n", strings.ToUpper(s.Title))
		writeManFlags(&b, s.flags())
	}

	for _, t := range p.Topics {
		title := strings.ToUpper(t.Name)
		if t.Name == "status" {
			title = "EXIT STATUS" // as in man-pages(7)
		}
		fmt.Fprintf(&b, ".SH %s\n", title)
		writeManText(&b, t.Text)
		writeManExample(&b, t.Example)
	}

	_, err := io.WriteString(w, b.String())
	return err
}

func (p *Program) writeManCommand(b *strings.Builder, c Command) {
	fmt.Fprintf(b, ".SS %s\n.B %s\n.PP\n", roff(c.Name), roff(synopsis(c)))
	writeManText(b, c.Long)
	own, shared := p.flagsOf(c)
	writeManFlags(b, own)
	if len(shared) > 0 {
		var titles []string
		for _, s := range shared {
			titles = append(titles, strings.ToUpper(s.title))
		}
		b.WriteString(".PP\n")
		writeManLines(b, "See also "+strings.Join(titles, " and ")+" below.\n")
	}

	writeManExample(b, c.Example)
	if c.Status != "" {
		b.WriteString(".PP\nExit status:\n")
		writeManLines(b, show.Wrap(c.Status, "", manWidth))
	}
}

func writeManFlags(b *strings.Builder, flags []FlagDoc) {
	for _, f := range flags {
		fmt.Fprintf(b, ".TP\n.B %s\n", roff(f.Head()))
		writeManLines(b, show.Wrap(f.Usage, "", manWidth))
	}
}

// manWidth is how wide lines of the source are, before they are escaped.
const manWidth = 72

// writeManText writes paragraphs, and lines that stand as they are.
func writeManText(b *strings.Builder, text string) {
	for i, block := range textBlocks(text) {
		if i > 0 {
			b.WriteString(".PP\n")
		}
		if block.verbatim {
			writeManVerbatim(b, block.text)
			continue
		}
		writeManLines(b, show.Wrap(block.text, "", manWidth))
	}
}

func writeManExample(b *strings.Builder, example string) {
	b.WriteString(".PP\nExample:\n.PP\n")
	writeManVerbatim(b, "  "+strings.ReplaceAll(example, "\n", "\n  "))
}

func writeManVerbatim(b *strings.Builder, text string) {
	b.WriteString(".nf\n")
	writeManLines(b, text+"\n")
	b.WriteString(".fi\n")
}

func writeManLines(b *strings.Builder, text string) {
	for line := range strings.Lines(text) {
		b.WriteString(roff(line))
	}
}

const manDescription = `Each command does one step of making, keeping or moving a container image, prints
one thing on standard output, and joins the others with pipes. Talk goes to standard error.

Commands that store a blob in a layout print its descriptor, one line of JSON, and pass on
the descriptors that the next command needs: this is the descriptor stream. Layer descriptors
in it carry their diff ID in the annotation containerd.io/uncompressed, which is never
written into a manifest.

An IMAGE is DIR[:TAG][@DIGEST]: a layout directory and a name in it; "oci:" or "ocidir://" in
front is accepted. A lone image needs no tag, otherwise the default is "latest". TAG@DIGEST
asserts that the tag has that digest. A REF is HOST[:PORT]/REPO[:TAG][@DIGEST].

An INPUT is a file with the bytes themselves, or a file, or literal text that begins with
"{", with descriptor lines; "-" is standard input.

The same input gives the same bytes on every machine. Times come from flags or from the
environment variable SOURCE_DATE_EPOCH (seconds), and are 0 otherwise.

Flags may stand before or behind operands, as --flag=v or --flag v; "--" ends them.`

// roff escapes text for roff: backslashes, dashes, and dots and quotes at line starts.
func roff(s string) string {
	s = strings.ReplaceAll(s, `\`, `\e`)
	s = strings.ReplaceAll(s, "-", `\-`)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}
