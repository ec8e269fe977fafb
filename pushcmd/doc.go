// Package pushcmd gets images and blobs into a registry.
//
// It does so in two ways. A [Session] is one upload taken by hand, a request a step:
// [Start], [Session.Chunk], [Session.Status], [Session.Finish]. It is a value that travels
// as one line of JSON through pipes, or lives in a file between two commands; the state of
// the hash is in it, so the last step knows the digest although no step saw all bytes.
//
// [Push] does everything that an image needs: it asks what is there, mounts or uploads what
// is not, and goes on where the registry says it stands whenever a request breaks. Both use
// the same requests of package registry.
//
// # Design
//
// Only the registry knows how much of a broken upload it has stored, so nothing is ever sent
// again on a guess. A failed request leads to the question where the upload stands; an answer
// that is not clear leads to a new upload. The digest proves what was stored in the end, never
// a status.
//
// # Rules
//
// What follows a failed request of an upload; the first line that fits counts:
//
//   - the caller gave up: stop (nobody waits for it)
//   - no session is open: stop (the client has repeated the request that opens one)
//   - the local bytes are bad: stop (no registry can mend them)
//   - the registry has more than was sent: renew (what it has is not ours)
//   - the commit has an unclear answer, and the blob is there: done (the answer was lost, not the work)
//   - it is busy: 429, 5xx, a rate limit in words: resume (it says itself that it is for a time)
//   - 401: resume, at most 2 times (a token may end within a blob; the client asks for another)
//   - 403, 411: stop (the same request would fail the same way)
//   - 413, or 416 about the size: smaller chunks (a proxy or the registry limits a body)
//   - 416: resume (it stands elsewhere than we think)
//   - DIGEST_INVALID, SIZE_INVALID: renew, at most 2 times (ours were verified before the last of them left, so its bytes are not ours)
//   - the session is unknown: renew (it was forgotten, or belongs to another process of the registry)
//   - 400, 404, 405, 415, 501: another mode (it may not know this kind of request)
//   - the connection broke: resume (what it has stored it alone knows)
//   - nonsense in the middle of a body: resume (a proxy may have answered in its place)
//   - anything else: stop
package pushcmd
