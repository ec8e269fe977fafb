package registry

import (
	"io"

	"ocikit/oci/registry/auth"
	"ocikit/oci/registry/wire"
)

// These types of packages wire and auth are part of the methods of [Client], and have names here for
// callers that need not know those packages.
type (
	// An Event describes one request and its answer, without secrets.
	Event = wire.Event
	// A Call is one request as the caller spells it.
	Call = wire.Call
	// An Answer is the answer to a Call, of any status.
	Answer = wire.Answer
	// A TokenInfo explains an authorization.
	TokenInfo = auth.TokenInfo
	// Helpers remembers what credential helpers answered.
	Helpers = auth.Helpers
)

// TraceJSON returns a function for [Options.Trace] that writes each event as one JSON line. It may be
// called concurrently.
func TraceJSON(w io.Writer) func(Event) { return wire.TraceJSON(w) }

// TraceText returns a function for [Options.Trace] that writes each event as a few short lines for
// people. It may be called concurrently.
func TraceText(w io.Writer) func(Event) { return wire.TraceText(w) }
