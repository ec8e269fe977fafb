// Package probe finds out what a registry supports, by trying it with tiny blobs in one
// repository, and says what "ocikit push" will do about it.
//
// [List] is the table of what is tried; [Run] tries it and returns a [Profile] with one
// [Finding] for each row. A probe sends what it is about and nothing is put right for it: it
// uses [registry.Client.Call], so the safety rules and limits of the client hold, and the
// answers are those of the registry.
//
// Run uses a tag of its own that no one else can have, never changes one that is there, and
// removes what it made as far as the registry lets it; the rest is listed in [Profile.Left].
package probe

import (
	"context"
	"time"

	"ocikit/oci/registry"
)

// A Level says what a finding means.
type Level string

// The levels.
const (
	OK        Level = "ok"        // as the distribution-spec has it
	Note      Level = "note"      // allowed, and good to know
	Violation Level = "violation" // against the distribution-spec
	Skipped   Level = "skipped"   // not tried
)

// A Finding is what came of one probe.
type Finding struct {
	ID       string `json:"id"`
	Endpoint string `json:"endpoint"` // in the table of the distribution-spec; "-" if it is not in there
	Level    Level  `json:"level"`
	Asked    string `json:"asked"`
	Got      string `json:"got"`
	Push     string `json:"push,omitempty"` // what ocikit push does about it
}

// A Profile is what is known about a registry. Its texts are free of secrets, but not all of
// them fit for a terminal.
type Profile struct {
	Repository string    `json:"repository"` // HOST/REPO
	URL        string    `json:"url"`
	Proto      string    `json:"proto"`
	TLS        string    `json:"tls,omitempty"`
	ReadOnly   bool      `json:"readOnly"` // nothing was written, by choice or since it is not allowed
	Findings   []Finding `json:"findings"`
	Push       []string  `json:"push"` // what ocikit push does here
	Left       []string  `json:"left"` // what was made and could not be removed
	Requests   int64     `json:"requests"`
	Sent       int64     `json:"sent"` // bytes
}

// Options of [Run]. The zero value tries everything that is small.
type Options struct {
	ReadOnly bool     // write nothing
	Large    bool     // try bodies of a few MiB, too
	Only     []string // try these probes alone, and what they need; empty is all

	Sleep func(context.Context, time.Duration) error // nil waits
}

// A Row is one probe in the table.
type Row struct {
	ID       string `json:"id"`
	Endpoint string `json:"endpoint"`
	Asks     string `json:"asks"`
	Writes   bool   `json:"writes"`
	Large    bool   `json:"large,omitempty"` // is tried only with Options.Large
}

// List returns what Run will try, in its order. A name in [Options.Only] that is none is an
// error.
func List(o Options) ([]Row, error) {
	chosen, err := choose(o)
	var rows []Row
	for _, p := range chosen {
		rows = append(rows, p.Row)
	}
	return rows, err
}

// Run tries everything in one repository. What only reads is tried on what Run made, or if
// nothing may be written on the manifest that name means, a tag or digest; "" is a tag of the
// repository's list. An error means that the registry does not answer, or lets nobody in; the
// Profile holds what was found before. Quirks are no errors.
func Run(ctx context.Context, c *registry.Client, repo, name string, o Options) (Profile, error) {
	if o.Sleep == nil {
		o.Sleep = registry.Sleep
	}
	r := newRun(ctx, c, repo, name, o)
	probes, err := choose(o)
	if err == nil {
		err = r.all(probes)
	}
	r.cleanUp()
	r.advise()
	r.profile.Requests, r.profile.Sent = c.Stats()
	return r.profile, err
}
