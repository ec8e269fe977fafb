// Package probe finds out what a registry supports, by trying it with tiny blobs in one repository,
// and says what "ocikit push" will do about it.
//
// [List] returns the table of what is tried; [Run] tries it and returns a [Profile] with one
// [Finding] for each row. A probe sends its requests with [registry.Client.Call]: the safety rules
// and limits of the client hold, but nothing is corrected or worked around, so the answers are those
// of the registry.
//
// Run uses a random tag of its own, never changes a tag that is there, and removes what it made as
// far as the registry lets it. What is left is listed in [Profile.Left].
package probe

import (
	"context"
	"time"

	"ocikit/oci/registry"
)

// A Level says how a [Finding] is to be taken.
type Level string

// The levels.
const (
	OK        Level = "ok"        // as the distribution-spec has it
	Note      Level = "note"      // allowed, and good to know
	Violation Level = "violation" // against the distribution-spec
	Skipped   Level = "skipped"   // not tried
)

// A Finding is the result of one probe.
type Finding struct {
	ID       string `json:"id"`
	Endpoint string `json:"endpoint"` // in the table of the distribution-spec; "-" if it is not in there
	Level    Level  `json:"level"`
	Asked    string `json:"asked"`
	Got      string `json:"got"`
	Push     string `json:"push,omitempty"` // what ocikit push does about it
}

// A Profile is what a probe found out about a registry. Its texts are free of secrets. Some hold the
// registry's own words and have to be quoted for a terminal.
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

// Options are the settings of [Run]. The zero value tries everything that is small.
type Options struct {
	ReadOnly bool     // write nothing
	Large    bool     // try bodies of a few MiB, too
	Only     []string // the IDs of the probes to try, besides those that they need; empty is all

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

// List returns the probes that [Run] will try, in its order. An ID in [Options.Only] that does not
// exist is an error.
func List(o Options) ([]Row, error) {
	chosen, err := choose(o)
	var rows []Row
	for _, p := range chosen {
		rows = append(rows, p.Row)
	}
	return rows, err
}

// Run tries the probes in one repository. Probes that read use what Run has written. If nothing may
// be written, they use the manifest that name stands for, a tag or digest; "" stands for a tag of
// the repository's list.
//
// An error means that the registry does not answer, or does not let this account in, or that ctx
// ended; the Profile then holds what was found before. Faults of the registry are findings, not
// errors. Run cleans up also after an error.
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
