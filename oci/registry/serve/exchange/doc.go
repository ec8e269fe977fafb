// Package exchange is one request to a registry and its answer, as a server sees them. It is
// what package serve, which answers by itself, and package tap, which hands everything on to
// another registry, have in common.
//
// [Parse] says what a path asks for: a [Route] is an [Endpoint] of the distribution-spec with
// the names that stand in the path. A [Recorder] is the way to answer: it counts, gives every
// piece of a body a deadline of its own, and holds the [Access] record, which ends as a line of
// the log. A [Failure] is an answer that refuses, in the form of the distribution-spec.
//
// Nothing here knows where blobs are kept.
package exchange
