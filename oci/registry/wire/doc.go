// Package wire carries requests to one registry and answers back. It knows no endpoint and no
// credentials: package registry spells the requests, package auth finds their Authorization.
//
// A [Conn] is the way to a registry. [Conn.Do] sends a [Request] until there is a final [Response]:
// authorized by an [Authorizer], with redirects followed, and repeated after a pause where that can
// do no harm. [Conn.Attempt] is a single exchange, for requests that have rules of their own.
// [Conn.Call] sends a request as the caller spells it. An answer with another status than those
// asked for is a [StatusError]; no answer at all is a [ConnError].
//
// # Design
//
// Redirects are followed here and not by net/http, which turns a PUT into a GET and keeps
// credentials on another port of the same host. There are three transports: one to the registry's
// own origin, with its client certificate, one to other ports of its host, and one to every other
// host. The last two check each address that they dial, so that a registry cannot send us to a place
// more local than itself. Whatever leaves the package as text goes through one [Redactor].
package wire
