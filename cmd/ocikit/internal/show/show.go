// Package show writes values for the eyes: text from outside with what a terminal would obey
// escaped, sizes, filled paragraphs, lines of JSON.
package show

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"ocikit/digest"
	"ocikit/oci"
)

// Printable returns s as one line that a terminal shows as it is: control characters, marks that
// turn the direction of text and bytes that are not UTF-8 are written as escapes. All text from an
// image, a registry or a file name goes through here.
func Printable(s string) string {
	clean := func(r rune) bool {
		return r != utf8.RuneError && (unicode.IsPrint(r) || r == ' ') && !unicode.Is(unicode.Bidi_Control, r)
	}

	if utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool { return !clean(r) }) < 0 {
		return s
	}

	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case clean(r):
			b.WriteString(s[i : i+n])
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += n
	}

	return b.String()
}

// Shorten takes the middle out of a line of over 1024 bytes: an error can be about a name that
// fills an extended header. What was done, and why it failed, stands at the ends.
func Shorten(line string) string {
	const limit, end = 1024, 256
	if len(line) <= limit {
		return line
	}
	head := strings.ToValidUTF8(line[:limit-end], "")
	tail := strings.ToValidUTF8(line[len(line)-end:], "")
	return fmt.Sprintf("%s …%d bytes… %s", head, len(line)-len(head)-len(tail), tail)
}

// Size returns a number of bytes for the eyes, in units of 1024, with one digit behind the point.
func Size(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	f, i := float64(n), 0
	for f >= 1024 && i < len(units)-1 {
		f, i = f/1024, i+1
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

// Columns breaks a line whose columns are split by two blanks or more: the text of the last one
// goes on below its start. A line without columns, or one that fits, stays as it is.
func Columns(line string, width int) string {
	if len(line) <= width {
		return line + "\n"
	}

	// The last column begins behind the last gap of two blanks.
	text := strings.TrimLeft(line, " ")
	gap := strings.LastIndex(text, "  ")
	if gap < 0 || strings.TrimSpace(text[gap:]) == "" {
		return line + "\n"
	}

	// The head is everything up to the last column. In a narrow place the text goes below it.
	column := len(line) - len(strings.TrimLeft(text[gap:], " "))
	head, rest := line[:column], line[column:]
	if column > width/2 {
		return strings.TrimRight(head, " ") + "\n" + Wrap(rest, strings.Repeat(" ", 8), width)
	}

	return head + strings.TrimLeft(Wrap(rest, strings.Repeat(" ", column), width), " ")
}

// Wrap fills text into lines of at most width bytes, each with the indent in front. A longer word
// has a line of its own.
func Wrap(text, indent string, width int) string {
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

// Count returns a number with its noun: "1 operand", "2 operands".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// WriteJSON writes a value as one line of JSON, with sorted keys.
func WriteJSON(w io.Writer, v any) error {
	line, err := oci.EncodeLine(v)
	if err != nil {
		return err
	}
	return WriteAll(w, line)
}

// WriteEachJSON writes values, each as [WriteJSON] does.
func WriteEachJSON[T any](w io.Writer, values []T) error {
	for _, v := range values {
		if err := WriteJSON(w, v); err != nil {
			return err
		}
	}
	return nil
}

// A Step is a line of a plan that does something with blobs.
type Step struct {
	Action    string        `json:"action"`
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Name      string        `json:"name,omitempty"` // that the image gets
	Path      string        `json:"path,omitempty"` // that the blob becomes
	Size      int64         `json:"size"`
}

// StepOf returns the step that does something with the blob of a descriptor.
func StepOf(action string, desc oci.Descriptor) Step {
	return Step{Action: action, Digest: desc.Digest, MediaType: desc.MediaType, Size: desc.Size}
}

// WriteRecord writes one record of a list: as JSON, or as a line that is made [Printable].
func WriteRecord(w io.Writer, asJSON bool, v any, line string) error {
	if asJSON {
		return WriteJSON(w, v)
	}
	return WriteLines(w, []string{line})
}

// WriteLines writes lines, each made [Printable], with one Write.
func WriteLines(w io.Writer, lines []string) error {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(Printable(l) + "\n")
	}
	return WriteAll(w, []byte(b.String()))
}

// WriteAll writes data, and returns nothing but the error.
func WriteAll(w io.Writer, data []byte) error {
	_, err := w.Write(data)
	return err
}
