package cli

import (
	"testing"
	"time"
)

func TestNoBars(t *testing.T) {
	for _, tt := range []struct {
		name string
		how  string
		env  map[string]string
		set  func(*Env)
	}{
		{"none", "none", nil, nil},
		{"no flag", "", nil, nil},
		{"a dumb terminal", "auto", map[string]string{"TERM": "dumb"}, nil},
		{"-q", "auto", nil, func(e *Env) { e.Quiet = true }},
		{"-q with plain", "plain", nil, func(e *Env) { e.Quiet = true }},
		{"no terminal", "auto", nil, func(e *Env) { e.ErrTerm = nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &Env{ErrTerm: noTerminal{}, Getenv: func(k string) string { return tt.env[k] }, Now: func() time.Time { return time.Unix(0, 0) }}
			if tt.set != nil {
				tt.set(e)
			}
			e.progressFlag = &tt.how
			stop := e.startProgress()
			if e.Report() != nil {
				t.Error("there is a view")
			}
			stop(false)
		})
	}
}

type noTerminal struct{}

func (noTerminal) Size() (int, int) { return 80, 24 }
func (noTerminal) Claim() bool      { return true }
