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

// bars are what stands at the bottom of a terminal. The cursor rests at the start of the
// first line, so that what another process of the pipe prints stands above the next frame,
// and is not written over. There it rests as well when the terminal has broken the lines
// because it was made narrower.
type bars struct {
	lines   []string
	shown   bool // there were any
	midline bool // a text without an end of line stands in the way
	summed  bool // there was a summary
}

// draw returns what brings the terminal from the lines that stand there to new ones. It
// writes over them, so that nothing flickers.
func (b *bars) draw(lines []string) string {
	if b.midline || len(lines) == 0 && len(b.lines) == 0 {
		return ""
	}
	text := "\r" + strings.Join(lines, "\x1b[K\n") + "\x1b[K\x1b[J\r"
	if n := len(lines) - 1; n > 0 {
		text += fmt.Sprintf("\x1b[%dA", n)
	}
	b.lines, b.shown = lines, true
	return text
}

// erase returns what takes the lines away.
func (b *bars) erase() string {
	text := ""
	if len(b.lines) > 0 {
		text = "\r\x1b[J"
	}
	b.lines = nil
	return text
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
