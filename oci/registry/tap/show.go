package tap

import (
	"embed"
	"net/http"

	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/live"
)

//go:embed assets
var assets embed.FS

// show has an exchange judged and tells the page and Options.Seen of it. Exchanges are judged one at a
// time, in the order in which they end.
func (t *Tap) show(p *passage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	verdicts := t.judge.Judge(p.entry)
	p.w.Finish(p.in, t.opts.Now())

	// The page shows the same columns for the tap and for serve. The tap fills them from the
	// entry, in which sent and received are the client's.
	a := p.w.Access
	a.Path, a.Sent, a.Received = p.entry.Path(), p.entry.Received, p.entry.Sent
	a.Status, a.From, a.Session = p.entry.Status, p.entry.From, p.entry.Session
	if p.entry.Shown != 0 {
		a.Status = p.entry.Shown
	}

	step := live.Step(a)
	step.Failed = false
	for _, v := range verdicts {
		if v.Text != "" {
			step.Verdict = live.PlainText(v.String())
			step.Failed = v.Broken()
			break
		}
	}

	t.feed.Add(step)
	if t.opts.Seen != nil {
		t.opts.Seen(p.entry, verdicts)
	}
}

// servePage answers requests for the tap's own page. A panic there is a fault of ours: nobody knows
// what was sent, so the connection is cut.
func (t *Tap) servePage(w *exchange.Recorder, r *http.Request) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if p != http.ErrAbortHandler && t.opts.Failed != nil {
			text := exchange.PanicText(p)
			t.mu.Lock()
			defer t.mu.Unlock()
			t.opts.Failed(text)
		}
		panic(http.ErrAbortHandler)
	}()

	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", live.Policy)
	h.Set("Referrer-Policy", "no-referrer")
	err := t.page(w, r)
	if err != nil && w.Status == 0 {
		host{t}.Answer(err).Send(w)
	}
}

// page writes the page of the tap: what it stands before, and what it has seen so far.
func (t *Tap) page(w *exchange.Recorder, r *http.Request) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h := w.Header()
		h.Set("Allow", "GET, HEAD")
		return exchange.Fail(http.StatusMethodNotAllowed, exchange.CodeUnsupported, "this path takes GET, HEAD")
	}

	if known, err := t.feed.ServePart(w, r); known {
		return err
	}

	if r.URL.Path != "/" {
		return exchange.Fail(http.StatusNotFound, exchange.CodeUnsupported, "no such page")
	}

	return live.Send(w, assets, nil, "tap.html", map[string]any{
		"Registry": t.opts.Registry.String(), "Faults": t.opts.Faults, "Summary": t.summaryLines(),
	})
}
