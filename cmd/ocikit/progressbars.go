package main

import (
	"fmt"
	"os"
	"strings"
)

// A terminal is what bars are drawn on.
type terminal interface {
	Size() (cols, rows int)
	// Claim reports whether the bars may be drawn by this process. Of several in a pipe
	// one does it at a time.
	Claim() bool
}

// bars are what stands at the bottom of a terminal, with the cursor on the line below.
type bars struct {
	lines   []string
	cols    int  // of the terminal for which they were drawn
	shown   bool // there were any
	midline bool // a text without an end of line stands in the way
	summed  bool // there was a summary
}

// draw returns what brings the terminal from the lines that stand there to new ones. It
// writes over them, so that nothing flickers.
func (b *bars) draw(lines []string, cols int) string {
	if b.midline || len(lines) == 0 && len(b.lines) == 0 {
		return ""
	}
	var text strings.Builder
	text.WriteString(b.up(cols))
	for _, line := range lines {
		text.WriteString(line + "\x1b[K\n")
	}
	text.WriteString("\x1b[J")
	b.lines, b.cols, b.shown = lines, cols, true
	return text.String()
}

// erase returns what takes the lines away.
func (b *bars) erase(cols int) string {
	text := b.up(cols)
	if text != "" {
		text += "\x1b[J"
	}
	b.lines = nil
	return text
}

// up moves the cursor to the first of the lines. If the terminal was made narrower, it has
// broken them into more rows, as most terminals do.
func (b *bars) up(cols int) string {
	rows := 0
	for _, line := range b.lines {
		rows++
		if cols < b.cols && cols > 0 {
			rows += (max(columns(line), 1) - 1) / cols
		}
	}
	if rows == 0 {
		return ""
	}
	return fmt.Sprintf("\r\x1b[%dA", rows)
}

// stderrTerminal returns the terminal that standard error is, or nil.
func stderrTerminal(f *os.File) terminal {
	if !isTerminal(f) {
		return nil
	}
	return &fileTerminal{f: f}
}

// A fileTerminal is a terminal behind a file.
type fileTerminal struct {
	f     *os.File
	owned bool
}

// Size asks the system each time, since windows are resized.
func (t *fileTerminal) Size() (cols, rows int) {
	if cols, rows = terminalSize(t.f); cols <= 0 || rows <= 0 {
		return 80, 24
	}
	return cols, rows
}

// Claim implements [terminal]. The claim ends with the process.
func (t *fileTerminal) Claim() bool {
	t.owned = t.owned || claimTerminal(t.f)
	return t.owned
}
