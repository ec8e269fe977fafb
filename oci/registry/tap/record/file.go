package record

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"ocikit/oci"
)

// A Head is the first line of a recording.
type Head struct {
	Version  int       `json:"ocikitRecording"` // 1
	Registry string    `json:"registry"`        // scheme, host and port
	Started  time.Time `json:"started"`
	Names    string    `json:"names,omitempty"` // "redacted" if they were taken out
}

// ErrMalformed means that a file is not a recording, or that one was damaged.
var ErrMalformed = errors.New("malformed recording")

// maxLine bounds one line. A manifest may have 4 MiB, and JSON in JSON grows.
const maxLine = 16 << 20

// A Writer writes a recording. It is safe for concurrent use.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	err error
}

// NewWriter writes the first line of a recording, and returns a Writer for the others. Each line is
// one call of w.Write. The caller closes w.
func NewWriter(w io.Writer, head Head) (*Writer, error) {
	head.Version = 1
	line, err := oci.EncodeLine(head)
	if err == nil {
		_, err = w.Write(line)
	}
	return &Writer{w: w}, err
}

// Write writes an entry. After an error it does nothing and returns that error again.
func (w *Writer) Write(e *Entry) error {
	line, err := oci.EncodeLine(e)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && err == nil {
		_, err = w.w.Write(line)
	}
	w.err = cmp.Or(w.err, err)
	return w.err
}

// Read reads a recording and calls visit for each entry, in the order in which the exchanges ended;
// their numbers say in which order they began. Sizes and offsets are checked not to be negative. A
// last line that was cut, as by a tap that was killed, is passed over. Any other line that cannot be
// read gives [ErrMalformed]. An error of visit ends the work and is returned.
func Read(r io.Reader, visit func(*Entry) error) (Head, error) {
	lines := bufio.NewReaderSize(r, 64<<10)
	var head Head
	line, _, err := readLine(lines)
	if err != nil && err != io.EOF {
		return head, err
	}

	if err := json.Unmarshal(line, &head); err != nil || head.Version != 1 {
		return head, fmt.Errorf("%w: the first line does not begin one of version 1", ErrMalformed)
	}

	for number := 2; ; number++ {
		line, whole, err := readLine(lines)
		if err != nil && err != io.EOF {
			return head, fmt.Errorf("line %d: %w", number, err)
		}

		if len(bytes.TrimSpace(line)) > 0 {
			e := new(Entry)
			decodeErr := json.Unmarshal(line, e)
			if decodeErr == nil {
				decodeErr = e.check()
			}

			// A line without an end that cannot be read was cut. One with an end was damaged.
			switch {
			case decodeErr != nil && !whole:
				return head, nil
			case decodeErr != nil:
				return head, fmt.Errorf("line %d: %w: %v", number, ErrMalformed, decodeErr)
			}
			if err := visit(e); err != nil {
				return head, err
			}
		}

		if err == io.EOF {
			return head, nil
		}
	}
}

// readLine returns the next line; whole says that it has an end.
func readLine(r *bufio.Reader) (line []byte, whole bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > maxLine:
			return nil, false, fmt.Errorf("%w: a line of over %d bytes", ErrMalformed, maxLine)
		case err == nil:
			return line, true, nil
		case err != bufio.ErrBufferFull:
			return line, false, err
		}
	}
}

// check refuses an entry that code behind it would stumble over.
func (e *Entry) check() error {
	switch {
	case e.N <= 0:
		return fmt.Errorf("exchange %d: they are counted from 1", e.N)
	case e.Method == "" || len(e.Method) > 40:
		return errors.New("no method")
	case e.Sent < 0 || e.Received < 0 || e.Asked.Size < 0 || e.Answered.Size < 0 || e.Status < 0 || e.Status > 999:
		return errors.New("a size or a status is negative or too large")
	}
	for _, n := range []*int64{e.From, e.Offset, e.Announced} {
		if n != nil && *n < 0 {
			return errors.New("an offset is negative")
		}
	}
	return nil
}
