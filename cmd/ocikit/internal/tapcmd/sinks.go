package tapcmd

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/registry/tap/judge"
	"ocikit/oci/registry/tap/record"
)

// A sinks is where exchanges go: to standard error, a recording and an HTTP archive, as the flags
// say. Its methods are not safe for concurrent use; a tap tells of one exchange at a time.
type sinks struct {
	env   *cli.Env
	log   string
	curl  bool
	namer *record.Namer

	recording *record.Writer
	har       *record.HAR
	files     []*os.File
	err       error // the first one of a file
}

// openSinks opens the files. A recording tells who does what, so its file can be read by its owner
// alone.
func openSinks(env *cli.Env, f *tapFlags, registry string) (*sinks, error) {
	s := &sinks{env: env, log: *f.log, curl: f.curl}
	head := record.Head{Registry: registry, Started: env.Now().UTC()}
	if f.hideNames {
		s.namer = record.NewNamer()
		head.Registry, head.Names = s.namer.URL(registry), "redacted"
	}

	if f.record != "" {
		file, err := s.create(f.record)
		if err != nil {
			return nil, err
		}
		if s.recording, err = record.NewWriter(file, head); err != nil {
			return nil, errors.Join(err, s.close())
		}
	}

	if f.har != "" {
		file, err := s.create(f.har)
		if err != nil {
			return nil, errors.Join(err, s.close())
		}
		s.har = record.NewHAR(file)
	}

	return s, nil
}

func (s *sinks) create(name string) (*os.File, error) {
	file, err := s.env.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	s.files = append(s.files, file)
	return file, nil
}

// seen shows an exchange and writes it down.
func (s *sinks) seen(e *record.Entry, verdicts []judge.Verdict) {
	switch s.log {
	case "text":
		s.env.Notice("%s", exchangeLine(e))
		for _, v := range verdicts {
			if v.Text != "" {
				s.env.Notice("    %s", v)
			}
		}
	case "json":
		show.WriteJSON(s.env.Stderr, judged{e, verdicts})
	}

	if s.curl {
		io.WriteString(s.env.Stderr, e.Curl())
	}

	// Other names are for what leaves this machine: what is shown above has the true ones.
	if s.namer != nil {
		e = s.namer.Entry(e)
	}

	if s.recording != nil {
		s.keep(s.recording.Write(e))
	}

	if s.har != nil {
		s.keep(s.har.Write(e))
	}
}

// keep remembers the first error of a file and gives a notice at once: clients need the tap even
// without a recording.
func (s *sinks) keep(err error) {
	if err != nil && s.err == nil {
		s.err = err
		s.env.Notice("ocikit: the recording has ended: %v", oci.Pathless(err))
	}
}

// close ends the files and returns the first error of writing, with those of closing.
func (s *sinks) close() error {
	err := s.err
	if s.har != nil {
		err = errors.Join(err, s.har.Close())
	}
	for _, f := range s.files {
		err = errors.Join(err, f.Close())
	}
	return err
}

// A judged is an exchange with its verdicts, as JSON.
type judged struct {
	*record.Entry
	Verdicts []judge.Verdict `json:"verdicts"`
}

// exchangeLine returns an exchange as one line: number, request, endpoint, status, bytes sent and
// received, milliseconds to the first byte and to the end, then session, offset and fault if there
// are any.
func exchangeLine(e *record.Entry) string {
	status := fmt.Sprint(e.Status)
	if e.Status == 0 {
		status = "no-answer"
	}

	endpoint := cmp.Or(e.Endpoint, "-")

	words := []string{fmt.Sprint(e.N), judge.What(e), endpoint, status,
		fmt.Sprintf("%d %d %.0f/%.0fms", e.Sent, e.Received, e.Timing.FirstByte, e.Timing.Total)}
	if e.Session != "" {
		words = append(words, "session="+e.Session)
	}

	switch {
	case e.From != nil && e.Offset != nil:
		words = append(words, fmt.Sprintf("offset=%d-%d", *e.From, *e.Offset))
	case e.Offset != nil:
		words = append(words, fmt.Sprintf("offset=%d", *e.Offset))
	}

	if e.Fault != "" {
		words = append(words, "fault="+e.Fault)
	}

	if e.Cut != "" {
		words = append(words, "cut-by="+e.Cut)
	}

	return strings.Join(words, " ")
}
