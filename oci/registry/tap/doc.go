// Package tap stands between any client and any registry: it answers the registry protocol on an
// address of its own, hands everything on with the bytes untouched, and says what it saw.
//
// A [Tap], made by [New], is an http.Handler; [Tap.Serve] runs it on a listener, with a certificate
// of [Authority] if need be. For each exchange it makes a [record.Entry], has it judged by a
// [judge.Conversation], and gives both to [Options.Seen]. [Tap.Summary] names the first problem.
//
// The client stays on the tap. Where an answer leads elsewhere (a Location, a redirect to storage, a
// token server), the tap puts an address of its own in that place and remembers what it stands for.
// The way is the same as without the tap, with one more stop. A relative address is left as it is.
//
// # Design
//
// Only documents are held in memory. A blob passes in pieces and is hashed on the way, so that the
// verdict on a wrong digest can say who was wrong. Credentials are the client's: they are handed to
// the registry and to the token server that it names, and never to storage that a redirect leads to,
// just as clients do it. They are in no record, since each entry is made of redacted text.
//
// What the client does wrong reaches the registry, and what the registry does wrong reaches the
// client. The tap answers itself only if the registry cannot be reached, or to commit a fault that
// it was asked for.
package tap
