package wire

import (
	"context"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// A short pause that one request is told does not end the longer one that another was told.
func TestLongestPause(t *testing.T) {
	now := time.Unix(1e9, 0)
	var slept time.Duration
	c, err := New(Options{
		Base: &url.URL{Scheme: "http", Host: "r.test"}, Getenv: func(string) string { return "" },
		Now:   func() time.Time { return now },
		Sleep: func(_ context.Context, d time.Duration) error { slept = d; return nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, wait := range []time.Duration{30 * time.Second, time.Second} {
		c.Retry(&Request{Method: http.MethodGet}, &StatusError{Status: http.StatusServiceUnavailable, RetryAfter: wait}, 0)
	}
	if err := c.waitPause(t.Context()); err != nil || slept != 30*time.Second {
		t.Errorf("waitPause() slept %s, %v, want 30s", slept, err)
	}
}
