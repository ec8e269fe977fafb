package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// A stream is the body of a blob. The time between two reads is the caller's and says nothing about
// the network, so the watch runs only within Read.
type stream struct {
	x    *exchange
	req  *http.Request
	res  *http.Response
	out  *Response
	n    int64
	err  error
	once sync.Once

	waited time.Duration // for the bytes that are counted in came
	came   int64
}

// A blob that comes slower than this over a minute of waiting is given up: it would never end.
const (
	leastRate   = 1 << 10 // bytes in a second
	rateMeasure = time.Minute
)

// drips counts what came in a time, and reports whether it is too little.
func (s *stream) drips(n int, took time.Duration) bool {
	s.came, s.waited = s.came+int64(n), s.waited+took
	if s.waited < rateMeasure {
		return false
	}
	little := s.came < leastRate*int64(s.waited/time.Second)
	s.came, s.waited = 0, 0
	return little
}

// Read returns bytes of the blob. After an error it returns that error again.
func (s *stream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}

	s.x.watch.touch()
	began := s.x.c.o.Now()
	n, err := s.res.Body.Read(p)
	s.x.watch.pause()
	s.n += int64(n)
	if s.drips(n, s.x.c.o.Now().Sub(began)) && err == nil {
		err = ErrDrips
	}

	// The transport says "context canceled" whoever ended the request. The caller's own cause
	// goes to the caller as it is; everything else is a broken connection.
	if err != nil && err != io.EOF {
		switch cause := s.x.watch.cause(); {
		case s.x.parent.Err() != nil:
			err = context.Cause(s.x.parent)
		default:
			if errors.Is(cause, ErrStalled) {
				err = cause
			}
			err = &ConnError{Method: s.x.r.Method, URL: s.x.c.Red.URL(s.out.URL), Stage: "receive body", Err: scrubbed{err, s.x.c.Red}}
		}
	}

	s.err = err
	return n, err
}

// Close ends the request and traces it. It may be called more than once.
func (s *stream) Close() error {
	s.once.Do(func() {
		s.res.Body.Close()
		s.x.watch.stop()
		s.out.Event.Received = s.n
		if s.err != nil && s.err != io.EOF {
			s.out.Event.Error = s.x.c.Red.Text(s.err.Error())
		}
		s.out.Event.Timing.Total = ms(s.x.c.o.Now().Sub(s.x.start))
		s.x.c.emit(s.out.Event)
	})
	return nil
}
