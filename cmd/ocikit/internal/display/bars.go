package display

import (
	"fmt"
	"os"
	"strings"
)

// A Terminal is what bars are drawn on.
type Terminal interface {
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

// OpenTerminal returns the terminal that f is, or nil if it is none.
func OpenTerminal(f *os.File) Terminal {
	if !IsTerminal(f) {
		return nil
	}
	return &fileTerminal{f: f}
}

// Width returns how many columns the terminal f has; 0 if f is none, or that is not known.
func Width(f *os.File) int {
	if !IsTerminal(f) {
		return 0
	}
	cols, _ := terminalSize(f)
	return cols
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

// Claim implements [Terminal]. The claim ends with the process.
func (t *fileTerminal) Claim() bool {
	t.owned = t.owned || claimTerminal(t.f)
	return t.owned
}
