package fault

import (
	"bytes"
	"net/http"
)

// maxHeld is how much of an answer is held back.
const maxHeld = 1 << 20

// A held answer waits in memory until it is known what becomes of it. One that is not wanted
// passes. It stands below the Recorder, so the edits of other faults are in it already.
type held struct {
	http.ResponseWriter
	wanted func(status int) bool

	status int // 0: it has passed
	body   bytes.Buffer
}

func (a *held) Unwrap() http.ResponseWriter { return a.ResponseWriter }

func (a *held) WriteHeader(status int) {
	if status >= 200 && a.wanted(status) {
		a.status = status
		return
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *held) Write(p []byte) (int, error) {
	if a.status == 0 {
		return a.ResponseWriter.Write(p)
	}
	a.body.Write(p[:min(len(p), maxHeld-a.body.Len())])
	return len(p), nil
}

// hold lets next answer, holds the answer back if its status is wanted, and hands it to send. An
// error of next counts as the answer that it stands for.
func (c *call) hold(next func() error, wanted func(status int) bool, send func(w http.ResponseWriter, a *held)) error {
	below := c.w.ResponseWriter
	a := &held{ResponseWriter: below, wanted: wanted}
	c.w.ResponseWriter = a
	err := next()
	if err != nil && c.w.Status == 0 && !c.w.Abort {
		c.w.Fail(err, c.host.Answer(err))
		err = nil
	}
	c.w.ResponseWriter = below
	if a.status != 0 {
		send(below, a)
	}
	return err
}
