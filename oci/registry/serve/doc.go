// Package serve is a registry in which every repository is an OCI image layout below one directory.
// An image that is pushed is at once in a layout for every other command, and an image in a layout
// can be pulled. There is nothing else on the disk.
//
// [New] opens the directory, [Server.Serve] serves it until it is told to stop, and
// [Server.HTTPServer] is for those who bring their own listener. [fault.All] lists the misbehaviour
// that [Options] can ask for, to test clients.
//
// With [Options.TokenAuth] the API wants a token (Bearer) in place of a password. A token server on
// the same address gives out signed ones that name repositories and actions, as the registries on
// the Internet do, so that all that a client does can be tested against it.
//
// # How the protocol lies on the disk
//
// Repository a/b is the layout in the directory a/b. Tags are the names of its index.json. A
// manifest that was pushed by digest alone has an entry without a name, until an index that was
// pushed later, or a tag, holds it: so a garbage collector keeps all that was pushed. A tag that is
// moved or deleted leaves the manifest behind; it can be pulled by digest until someone collects
// garbage. Names that other tools wrote in full, as docker.io/library/alpine:3.20, count as the tag
// behind the last colon.
//
// An open upload is a file in the repository's directory. Once enough bytes have come a second file
// beside it holds the state of the hash function. Both survive the server. The directory becomes a
// layout with its first blob or manifest; if the upload is given up before, it goes away.
//
// # Design
//
// An upload is hashed while it arrives, and its file is renamed when it is finished. So a blob is
// written once. It is read only if the server was killed meanwhile, or if the client names a digest
// of another algorithm at the end than at the start.
//
// The offset that a client believes in is part of every Location. So a Location that is out of date
// is told from a fresh one even if the client sends no Content-Range, and appending twice is
// impossible.
//
// Name, tag, digest and session are checked against their grammars before any path is made of them,
// and every file is opened below an os.Root.
//
// A manifest is refused if a blob that it names is absent, and a blob or a manifest is not deleted
// while another manifest names it: a layout is whole at every moment. The alternative, to take what
// comes as other registries do, leaves layouts that cannot be copied.
package serve
