package registry

import "ocikit/oci/registry/wire"

// The errors of requests are made in package wire, and have names here for callers that need not
// know that package.
type (
	// A StatusError is an answer of a registry that is not the one that was asked for.
	StatusError = wire.StatusError
	// A ConnError is a request that got no answer.
	ConnError = wire.ConnError
	// An ErrorInfo is one entry of the error list of the distribution-spec.
	ErrorInfo = wire.ErrorInfo
)

var (
	// ErrNotFound matches the answer that a repository, manifest, blob or upload is not there.
	ErrNotFound = wire.ErrNotFound
	// ErrDenied matches 401 and 403, and every failure to find usable credentials.
	ErrDenied = wire.ErrDenied
	// ErrProtocol means that an answer breaks the distribution-spec in a way that cannot be
	// worked around.
	ErrProtocol = wire.ErrProtocol
	// ErrUnsafe means that the registry named an address that this package does not go to.
	ErrUnsafe = wire.ErrUnsafe
	// ErrStalled means that no byte moved for as long as [Options.Timeout].
	ErrStalled = wire.ErrStalled
	// ErrCut is the error of a request that [Body.CutAfter] cut on purpose.
	ErrCut = wire.ErrCut
)
