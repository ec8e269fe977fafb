package main

import (
	"fmt"
	"io"
	"strings"
)

// writeMan prints the manual page, in the man(7) macros that every roff reads.
func writeMan(w io.Writer) error {
	var b strings.Builder
	b.WriteString(`.\" Made by "ocikit help --man"; do not edit.
.TH OCIKIT 1 "" "ocikit" "User Commands"
.SH NAME
ocikit \- build, check, carry and push OCI container images
.SH SYNOPSIS
.B ocikit
.I COMMAND
[FLAGS] [OPERANDS]
.SH DESCRIPTION
`)
	for _, p := range paragraphs(manDescription) {
		fmt.Fprintf(&b, ".PP\n%s\n", roff(p))
	}
	b.WriteString(".SH COMMANDS\n")
	for _, c := range commands() {
		fmt.Fprintf(&b, ".SS %s\n.B %s\n", roff(c.Name), roff(synopsis(c)))
		for _, p := range paragraphs(c.Long) {
			fmt.Fprintf(&b, ".PP\n%s\n", roff(p))
		}
		for _, f := range flagsOf(c) {
			fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", roff(f.head()), roff(f.usage))
		}
		if c.Example != "" {
			b.WriteString(".PP\nExample:\n.PP\n.nf\n")
			for line := range strings.Lines(c.Example) {
				fmt.Fprintf(&b, "    %s", roff(line))
			}
			b.WriteString("\n.fi\n")
		}
		if c.Status != "" {
			fmt.Fprintf(&b, ".PP\nExit status: %s\n", roff(c.Status))
		}
	}
	b.WriteString(".SH EXIT STATUS\n")
	for s := range strings.SplitSeq(statuses, "; ") {
		status, text, _ := strings.Cut(s, " ")
		fmt.Fprintf(&b, ".TP\n.B %s\n%s\n", status, roff(text))
	}
	_, err := io.WriteString(w, b.String())
	return err
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
