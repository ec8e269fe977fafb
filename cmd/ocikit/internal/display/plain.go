package display

import (
	"fmt"
	"time"

	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/progress"
)

// sum says in one line what was done.
func (s *progressState) sum(took time.Duration) string {
	text := fmt.Sprintf("%s in %.1f s", show.Size(s.at), took.Seconds())
	if s.ended > 1 {
		text = fmt.Sprintf("%d done, %s", s.ended, text)
	}
	return text
}

// plainLine returns what a log says of an event; "" for nothing.
func plainLine(e progress.Event) string {
	name := taskName(e)
	switch e.Kind {
	case progress.Plan:
		return fmt.Sprintf("%d blobs, %s", e.Count, show.Size(e.Size))
	case progress.Start:
		switch {
		case e.Size == 0:
			return name + " start"
		case e.Size >= plainStart:
			return fmt.Sprintf("%s start, %s", name, show.Size(e.Size))
		}
	case progress.Resume:
		return fmt.Sprintf("%s resume at %s of %s", name, show.Size(e.Offset), show.Size(e.Size))
	case progress.Retry:
		return fmt.Sprintf("%s again at %s: %s", name, show.Size(e.Offset), e.Text)
	case progress.Again:
		return fmt.Sprintf("%s again from the start: %s", name, e.Text)
	case progress.Done:
		if e.Text != "" {
			return fmt.Sprintf("%s %s, %s", name, e.Text, show.Size(max(e.Size, e.Offset)))
		}
		return fmt.Sprintf("%s done, %s", name, show.Size(max(e.Size, e.Offset)))
	case progress.Exists, progress.Skip:
		return fmt.Sprintf("%s %s, %s", name, e.Kind, show.Size(e.Size))
	case progress.Tag:
		return fmt.Sprintf("%s is named %s", name, e.Text)
	}

	return ""
}

// plain returns what a log says of a task while it runs.
func (t *progressTask) plain(now time.Time) string {
	text := t.name + " at " + show.Size(t.at)
	if t.size > 0 {
		text += " of " + show.Size(t.size)
	}
	if t.committing {
		return text + ", committing"
	}
	if rate := t.meter.rate(now, t.at); rate > 0 {
		text += ", " + show.Size(int64(rate)) + "/s"
	}
	return text
}
