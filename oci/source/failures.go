package source

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// Failures are the errors of work on many images that went on after a bad one. errors.Is and
// errors.As look into all of them.
type Failures struct {
	Total int       // images that were to be worked on
	Began time.Time // the work, see SoFar
	Fast  bool      // one failure is enough to give up, see Hopeless
	Names []string  // of those that failed
	Errs  []error   // why, in the order of Names

	inARow int
}

// Add notes what became of an image: err is nil if all is well.
func (f *Failures) Add(name string, err error) {
	if err == nil {
		f.inARow = 0
		return
	}
	f.inARow++
	f.Names, f.Errs = append(f.Names, name), append(f.Errs, err)
}

// speakEvery is how often work on many images says how far it is.
const speakEvery = 10 * time.Second

// SoFar returns now and then, and else "", how far the work is: for those who are shown no progress.
func (f *Failures) SoFar(now time.Time, done int) string {
	if now.Sub(f.Began) < speakEvery {
		return ""
	}
	f.Began = now
	return fmt.Sprintf("%d of %d images are done, %d of them failed", done, f.Total, len(f.Errs))
}

// Err returns f, or nil if nothing failed. If there was one image to work on, it returns its error.
func (f *Failures) Err() error {
	switch {
	case len(f.Errs) == 0:
		return nil
	case f.Total == 1:
		return f.Errs[0]
	}
	return f
}

// Error is one line: how many failed, then the name and the reason of the first. The caller reports
// each failure when it happens.
func (f *Failures) Error() string {
	text := fmt.Sprintf("%d of %d images failed; %s: %v", len(f.Errs), f.Total, f.Names[0], f.Errs[0])
	if more := len(f.Errs) - 1; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return text
}

// Unwrap returns the errors.
func (f *Failures) Unwrap() []error { return f.Errs }

// Hopeless reports whether it makes no sense to go on: the last three images all failed with an
// error that says it may pass. Such an error, as of a registry that is down, is not about these
// images, and each one after them would be waited for in vain. With Fast one failure is enough,
// whatever its reason.
func (f *Failures) Hopeless() bool {
	if f.Fast {
		return len(f.Errs) > 0
	}
	const few = 3
	lasts := func(err error) bool {
		var r interface{ Retryable() bool }
		return !errors.As(err, &r) || !r.Retryable()
	}
	return f.inARow >= few && !slices.ContainsFunc(f.Errs[len(f.Errs)-few:], lasts)
}
