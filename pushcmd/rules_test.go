package pushcmd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"ocikit/digest"
	"ocikit/oci/registry"
)

// Each rule by an example of what it is for: the first that fits counts, so this is also the
// order of the table.
func TestRules(t *testing.T) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	answer := func(status int, codes ...string) error {
		e := &registry.StatusError{Status: status, Method: "PATCH"}
		for _, c := range codes {
			e.Errors = append(e.Errors, registry.ErrorInfo{Code: c})
		}
		return e
	}
	says := func(status int, text string) error { return &registry.StatusError{Status: status, Body: text} }
	broken := &registry.ConnError{Err: errors.New("reset")}
	examples := []struct {
		rule  string
		ctx   context.Context
		phase phase
		err   error
		set   func(*task)
	}{
		{rule: "the caller gave up", ctx: over, phase: sending, err: broken},
		{rule: "no session is open", phase: opening, err: answer(503)},
		{rule: "no session is open", phase: closed, err: registry.ErrProtocol},
		{rule: "the local bytes are bad", phase: sending, err: localError{os.ErrNotExist}},
		{rule: "the local bytes are bad", phase: committing, err: fmt.Errorf("x: %w", digest.ErrMismatch)},
		{rule: "the registry has more than was sent", phase: sending, err: lostError{registry.ErrProtocol}},
		{rule: "it is busy: 429, 5xx, a rate limit in words", phase: sending, err: answer(429)},
		{rule: "it is busy: 429, 5xx, a rate limit in words", phase: sending, err: answer(500, "BLOB_UPLOAD_INVALID")},
		{rule: "it is busy: 429, 5xx, a rate limit in words", phase: sending, err: says(403, "You have exceeded a secondary rate limit")},
		{rule: "401", phase: sending, err: answer(401)},
		{rule: "403, 411", phase: sending, err: answer(403)},
		{rule: "413, or 416 about the size", phase: sending, err: answer(413)},
		{rule: "413, or 416 about the size", phase: sending, err: says(416, "the request body is too large, the limit is 4.00MiB")},
		{rule: "416", phase: sending, err: answer(416, "BLOB_UPLOAD_INVALID")},
		{rule: "DIGEST_INVALID, SIZE_INVALID", phase: committing, err: answer(400, "DIGEST_INVALID")},
		{rule: "the session is unknown", phase: sending, err: answer(404, "BLOB_UPLOAD_UNKNOWN")},
		{rule: "the session is unknown", phase: sending, err: answer(404, "BLOB_UPLOAD_UNKNOWN"), set: func(t *task) { t.patched = true; t.spent[sessions] = 5 }},
		{rule: "400, 404, 405, 415, 501", phase: sending, err: answer(404, "BLOB_UPLOAD_UNKNOWN"), set: func(t *task) { t.spent[sessions] = 2 }},
		{rule: "400, 404, 405, 415, 501", phase: sending, err: answer(501)},
		{rule: "the connection broke", phase: sending, err: broken},
		{rule: "nonsense in the middle of a body", phase: sending, err: registry.ErrProtocol, set: func(t *task) { t.feed.at = 3 }},
		{rule: "anything else", phase: sending, err: registry.ErrProtocol},
		{rule: "anything else", phase: sending, err: answer(418)},
	}
	tried := map[string]bool{"the commit has an unclear answer, and the blob is there": true} // asks the registry: see the fault loops
	for _, e := range examples {
		tried[e.rule] = true
		task := &task{feed: &feed{}, phase: e.phase}
		task.desc.Size = 10
		if e.set != nil {
			e.set(task)
		}
		ctx := e.ctx
		if ctx == nil {
			ctx = t.Context()
		}
		got := ""
		for _, r := range rules() {
			if r.what == "the commit has an unclear answer, and the blob is there" && e.phase == committing {
				continue
			}
			if r.when(task, ctx, failureOf(e.err)) {
				got = r.what
				break
			}
		}
		if got != e.rule {
			t.Errorf("%s: %v: rule %q, want %q", e.phase, e.err, got, e.rule)
		}
	}
	for _, r := range rules() {
		if !tried[r.what] {
			t.Errorf("rule %q has no example", r.what)
		}
	}
}

func (p phase) String() string { return [...]string{"closed", "opening", "sending", "committing"}[p] }

// ruleTable returns the rules as documentation, a line each.
func ruleTable() string {
	var b strings.Builder
	for _, r := range rules() {
		limit := ""
		if n := r.most.limit(); n > 0 {
			limit = fmt.Sprintf(", at most %d times", n)
		}
		fmt.Fprintf(&b, "%s: %s%s", r.what, r.do.name, limit)
		if r.why != "" {
			fmt.Fprintf(&b, " (%s)", r.why)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// The package comment shows the table as it is.
func TestRulesAreDocumented(t *testing.T) {
	data, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	want := ""
	for line := range strings.Lines(ruleTable()) {
		want += "//   - " + line
	}
	if !strings.Contains(string(data), want) {
		t.Errorf("doc.go does not hold the table of rules, which is:\n%s", want)
	}
}
