// Package set holds what is said about many images at once: a list of their names, a [Filter] that
// selects some of them, and the [Lock] that pins what the names mean.
//
// All of it is text that people and programs write by the line. The package knows names, and
// nothing of where the images are.
package set

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// A Line is one image of a list.
type Line struct {
	Number int
	Name   string
	As     string // what the image is to be called, "" for Name
	Err    error  // why the line names none
}

// Bounds of what is read: a line is a name or two, and a registry of a hundred thousand images is
// mirrored in parts.
const (
	maxLine  = 4 << 10
	maxLines = 100_000
)

// ReadList reads a list: a NAME on each line, or "NAME as OTHER". Empty lines, and what follows a #
// at the start of a line or behind a blank, say nothing. A line of another form is part of the result,
// with an error. A byte order mark in front of the first line is passed over.
func ReadList(r io.Reader) ([]Line, error) {
	var list []Line
	err := eachLine(r, func(number int, words []string) error {
		line := Line{Number: number, Name: words[0]}
		switch {
		case len(words) == 3 && words[1] == "as":
			line.As = words[2]
		case len(words) > 1:
			line.Name = strings.Join(words, " ")
			line.Err = errors.New("want NAME, or NAME as OTHER")
		}
		list = append(list, line)
		return nil
	})
	return list, err
}

// eachLine calls f with the words of each line that says something.
func eachLine(r io.Reader, f func(number int, words []string) error) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	for number := 1; lines.Scan(); number++ {
		text := lines.Text()
		if number == 1 {
			text = strings.TrimPrefix(text, "\ufeff") // editors of Windows begin a file with it
		}

		words := strings.Fields(text)
		for i, word := range words {
			if strings.HasPrefix(word, "#") {
				words = words[:i]
				break
			}
		}

		if len(words) == 0 {
			continue
		}
		if number > maxLines {
			return fmt.Errorf("over %d lines", maxLines)
		}

		if err := f(number, words); err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
	}

	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("a line of over %d bytes", maxLine)
	}

	return lines.Err()
}
