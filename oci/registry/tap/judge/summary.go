package judge

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A Summary says how a conversation went.
type Summary struct {
	Verdict   Verdict `json:"verdict"`            // on the first problem; of level right if there is none
	Exchange  int     `json:"exchange,omitempty"` // in which it stood
	Request   string  `json:"request,omitempty"`
	Recovered bool    `json:"recovered,omitempty"` // it went away with a repetition

	Requests int            `json:"requests"`
	Sent     int64          `json:"sent"`
	Received int64          `json:"received"`
	Uploads  int            `json:"uploads"`            // sessions that were opened
	Finished int            `json:"finished"`           // and became blobs
	Open     int            `json:"open"`               // and are still open
	Broken   map[string]int `json:"broken,omitempty"`   // how often each rule was broken
	Unhashed int            `json:"unhashed,omitempty"` // large blobs that were pulled and not hashed
	Ended    int            `json:"ended,omitempty"`    // requests that the end of the tap has cut
}

// Summary returns the summary of the exchanges judged so far.
func (c *Conversation) Summary() Summary {
	s := Summary{
		Verdict: Verdict{Level: Right, Rule: "right"}, Requests: c.requests, Sent: c.sent, Received: c.received,
		Uploads: c.uploads, Finished: c.finished, Open: len(c.sessions), Broken: maps.Clone(c.seen),
		Unhashed: c.unhashed, Ended: c.ended,
	}
	if c.hello && c.requests == 0 {
		s.Verdict = Verdict{
			Level: Client, Rule: "hello", Text: "it speaks TLS to this port, which speaks plain HTTP",
			Advice: "tell the client so (podman, skopeo: tls-verify=false; helm, oras: plain-http), or have the tap talk HTTPS",
		}
	}
	if p := c.first(); p != nil {
		s.Verdict, s.Exchange, s.Request, s.Recovered = p.v, p.n, p.what, p.solved
	}
	return s
}

// first returns the problem that matters: the first that stands, then the first that waits for
// something, then the first that has gone away. A client that breaks its own connection has a reason,
// which is any other problem that stands: clients cancel what else is under way when a request is
// refused, and may do so before the refusal has ended. But a name that is not there is asked for
// before every push, so it is not a reason.
func (c *Conversation) first() *problem {
	for _, matters := range []func(*problem) bool{
		func(p *problem) bool { return !p.solved && !p.waiting && p.v.Rule != "client-cut" },
		func(p *problem) bool { return !p.solved && p.v.Rule == "asks" },
		func(p *problem) bool { return !p.solved && !p.waiting },
		func(p *problem) bool { return !p.solved },
		func(p *problem) bool { return !p.waiting },
	} {
		if i := slices.IndexFunc(c.problems, matters); i >= 0 {
			return c.problems[i]
		}
	}
	return nil
}

// Lines returns the summary as lines for people, at least one. The first names the cause and what to
// do about it.
func (s Summary) Lines() []string {
	lines := []string{s.first()}
	if s.Requests == 0 {
		return lines
	}

	text := fmt.Sprintf("%s, %d bytes sent, %d received", count(s.Requests, "request"), s.Sent, s.Received)
	if s.Uploads > 0 {
		text += fmt.Sprintf("; %s, %d finished, %d open", count(s.Uploads, "upload"), s.Finished, s.Open)
	}

	if s.Ended > 0 {
		text += fmt.Sprintf("; %s cut by the end of the tap", count(s.Ended, "request"))
	}

	lines = append(lines, text)
	if len(s.Broken) > 0 {
		var words []string
		for _, id := range slices.SortedFunc(maps.Keys(s.Broken), func(a, b string) int {
			return cmp.Or(cmp.Compare(s.Broken[b], s.Broken[a]), strings.Compare(a, b))
		}) {
			words = append(words, fmt.Sprintf("%s %d", id, s.Broken[id]))
		}
		lines = append(lines, "broken: "+strings.Join(words, ", "))
	}

	return lines
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// first returns the line that names the cause, or says that there is none.
func (s Summary) first() string {
	v := s.Verdict
	switch {
	case s.Requests == 0 && v.Level == Right:
		return "nothing came: no client has asked for anything here; to do: name the address of the tap where the client has that of the registry"
	case v.Level == Right && v.Rule == "right":
		if s.Unhashed > 0 {
			return fmt.Sprintf("all right: nothing was broken, as far as can be seen without the digests of %d large blobs: they are computed if the client asks again, or if the tap records", s.Unhashed)
		}
		if s.Ended > 0 {
			return fmt.Sprintf("all right so far: nothing was broken, but %s did not end before the tap", count(s.Ended, "request"))
		}
		return "all right: nothing was broken"
	}

	who := map[Level]string{Client: "the client: ", Registry: "the registry: ", Right: "", Tolerated: ""}[v.Level]
	if v.Rule == "fault" {
		who = ""
	}

	text := who + v.Text
	if v.Advice != "" {
		text += "; to do: " + v.Advice
	}

	if s.Exchange > 0 {
		text += fmt.Sprintf(" (request %d: %s)", s.Exchange, s.Request)
	}

	if v.Level == Tolerated {
		return "nothing was broken, but: " + text
	}

	if s.Recovered {
		return "all right in the end, after this: " + text
	}

	return "cause: " + text
}
