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
// What a registry has stored of a broken upload is known to the registry alone, so nothing
// is ever sent again on a guess. A failed request leads to the question where the upload
// stands; an answer that is not clear leads to a new upload. What was stored in the end is
// proved by the digest, never by a status.
package pushcmd
