// Package registry speaks the OCI distribution protocol: one method of [Client] for each
// endpoint of the distribution-spec. The rules that make registries usable and safe lie below:
// package wire sends requests, package auth authorizes them.
//
// A [Reference] says where an image is; [New] makes a [Client] for its registry. Reading
// methods ([Client.GetManifest], [Client.OpenBlob]) hand out bytes that are checked against
// their digest. Writing a blob is a sequence of requests on an [Upload], the open session:
// [Client.StartUpload], [Client.PatchUpload], [Client.UploadStatus], [Client.PutUpload].
// Each sends one request and reports what came; how to get a blob across whatever happens is
// the business of package pushcmd. [Client.Call] sends one request as it is spelled and shows
// what came; package probe finds out with it what a registry supports.
//
// # Requests
//
// Requests are repeated, after a pause, only where that cannot do harm: without a body, or
// with one that names its own place (a manifest). Bytes of an upload are appended by the
// registry, so a request that carries them is never sent twice by this package. Redirects
// are followed here and not by net/http, which turns a PUT into a GET and keeps credentials
// on another port of the same host.
//
// # Credentials
//
// They are sent to one origin (scheme, host and port), that of the registry, and to a token server
// only if it is on the same host, known to belong to the registry, or named in
// [Options.TrustRealms]. Addresses that a registry makes up (redirects, Locations, realms) are
// checked again when they are dialled, so that a name cannot lead to a local service. All text that
// is traced, printed or put into an error goes through one redactor.
//
// # Errors
//
// A refusal is a [StatusError]. [ErrNotFound] and [ErrDenied] match the two that callers ask
// about. An error with a method Retryable that returns true may go away by itself; this
// package's own attempts are over then.
package registry
