// Package serve is a registry in which every repository is an OCI image layout below one
// directory. What is pushed is at once a layout for every other command, and what a layout
// holds can be pulled; there is nothing else on the disk.
//
// [New] opens the directory, [Server.Serve] serves it until it is told to stop, and
// [Server.HTTPServer] is for those who bring their own listener. [Faults] lists the
// misbehaviour that [Options] can ask for, to test clients.
//
// With [Options.TokenAuth] the API wants a token (Bearer) in place of a password, and a token
// server on the same address gives out signed ones that name repositories and actions, as
// the registries on the Internet do: the whole way of a client can be tested against it.
//
// # How the protocol lies on the disk
//
// Repository a/b is the layout in the directory a/b. Tags are the names of its index.json. A
// manifest that was pushed by digest alone has an entry without a name, until an index that
// was pushed later, or a tag, holds it: so a garbage collector keeps all that was pushed. A
// tag that is moved or deleted leaves the manifest behind; it can be pulled by digest until
// someone collects garbage. Names that other tools wrote in full, as
// docker.io/library/alpine:3.20, count as the tag behind the last colon.
//
// An open upload is a file in the repository's directory and, once it is worth it, one beside
// it with the state of the hash function. Both survive the server. The directory becomes a
// layout with its first blob or manifest; if the upload is given up before, it goes away.
//
// # Design
//
// An upload is hashed while it arrives, and its file is renamed when it is finished, so a
// blob is written once, and read only if the server was killed meanwhile, or if the client
// names a digest of another algorithm at the end than at the start. The offset that a client believes in is part of every
// Location: one that is out of date is told from a fresh one even if the client sends no
// Content-Range, and appending twice is impossible. Nothing that a client does can lead to a
// path before name, tag, digest and session were checked against their grammars, and every
// file is opened below an os.Root.
//
// A manifest is refused if a blob that it names is absent, and a blob or a manifest is not
// deleted while another manifest names it: a layout is whole at every moment. The alternative,
// to take what comes as other registries do, leaves layouts that cannot be copied.
package serve
