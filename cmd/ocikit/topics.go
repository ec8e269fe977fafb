package main

import (
	"fmt"
	"slices"
	"strings"

	"ocikit/oci/registry/serve"
)

// A Topic is one page of "ocikit help" that explains what several commands have in common.
type Topic struct {
	Name    string // one word that is no command
	Short   string // noun phrase, lower case, no full stop
	Text    string // paragraphs, split by blank lines; a line that is indented stands as it is
	Example string // as in [Command]
}

// topics returns the table of topics, in the order of help.
func topics() []Topic {
	return []Topic{
		descriptorsTopic(), namesTopic(), layoutsTopic(), reproducibilityTopic(), statusTopic(),
		uploadsTopic(), credentialsTopic(), faultsTopic(), toolsTopic(),
	}
}

func descriptorsTopic() Topic {
	return Topic{
		Name: "descriptors", Short: "the lines of JSON that flow from command to command",
		Text: `A descriptor says which bytes are meant: their media type, digest and size. Everything in an image is
joined by descriptors: an index lists those of manifests, a manifest those of a config and of layers.

Commands print descriptors as JSON, one on each line, and read such lines on standard input. That is
how the parts of an image reach the next command of a pipe: "layer" prints the descriptor of the layer,
"config" prints that of the config and passes the layers on, "manifest" takes them in and prints the
descriptor of the manifest, "tag" gives it a name.

The descriptor of a layer carries the digest of the uncompressed tar, its diff ID, in the annotation
containerd.io/uncompressed, since a config must list it. The annotation is never written into a
manifest.

Flags that take an INPUT (--layer, --config, --manifest, --subject) read a file with the bytes
themselves, or a file of descriptors, or a descriptor written out ("{...}"), and tell them apart by
content; "-" is standard input. So every pipe can be taken apart into files.`,
		Example: `ocikit init app
ocikit tar ./rootfs | ocikit layer app > layer.json
ocikit config app --env PATH=/bin < layer.json > parts.json
ocikit manifest app < parts.json | ocikit tag app:latest`,
	}
}

func namesTopic() Topic {
	return Topic{
		Name: "names", Short: "how images, references and platforms are written",
		Text: `An IMAGE is in a layout: DIR[:TAG][@DIGEST]. DIR is a directory, the first colon behind it starts the
tag, which may hold colons and slashes of its own. A layout with one image needs no tag; with several,
"latest" is meant. DIR:TAG@DIGEST asserts that the tag has that digest. "oci:" or "ocidir://" may stand
in front, as other tools want it.

A REF is in a registry: HOST[:PORT]/REPO[:TAG][@DIGEST]. "docker://" may stand in front. A name whose
first part cannot be a host (no dot, no port, not localhost) is on Docker Hub: alpine is
docker.io/library/alpine. A registry on a loopback address may talk HTTP; any other one talks HTTPS
unless --plain-http says otherwise.

A PLATFORM is OS/ARCH[/VARIANT][:OSVERSION], as linux/arm64/v8, or "local" for that of this machine.
A new image is for linux/amd64, on every machine, unless flags say otherwise. A command that wants one
image of an index that holds several must be told which; one that can take all of them does.

"oci-archive:" and "docker-archive:" are no layouts: "ocikit save" and "ocikit load" are for archives.`,
		Example: `ocikit resolve app:latest
ocikit ls app --digests`,
	}
}

func layoutsTopic() Topic {
	return Topic{
		Name: "layouts", Short: "what is in a layout, and what may go wrong there",
		Text: `A layout is a directory that holds images:

  oci-layout             says that it is one
  index.json             descriptors of the images, each with its name as an annotation
  blobs/sha256/...       manifests, configs and layers, each under its digest

Nothing in it is a secret of ocikit: skopeo, umoci, podman and others read and write it, and so do cp,
jq and sha256sum. A blob or index.json appears whole or not at all, also after a crash; any number of
processes may write to one layout at once.

"ocikit verify" tells whether a layout is whole and true, --repair-from fetches what is bad or missing.
"ocikit gc" lists what no name refers to. A bundle leaves out what the far side has, so what comes out
of it is whole only together with that.`,
		Example: `ocikit ls app
ocikit inspect app
ocikit verify app
ocikit gc app`,
	}
}

func reproducibilityTopic() Topic {
	return Topic{
		Name: "reproducibility", Short: "the same input gives the same bytes, and what counts as input",
		Text: `The same command on the same input writes the same bytes, so the same digests, whatever the machine,
system, user, umask, locale, time and number of processors are.

Input is: names, content, permissions and kinds of files, and which of them are hard links of each
other; the flags; SOURCE_DATE_EPOCH. Extended attributes count only as far as --xattrs says.

Not input, unless a flag asks for it: owners (0:0), times (0), the order of directories, the clock. If
SOURCE_DATE_EPOCH is set, times of files are kept, but none is later; --mtime and --created set one.

The limits: systems without permission bits (Windows) give other modes, "--mode normalize" levels them.
Bytes made by a compiler are only as reproducible as the compiler. Gzip streams are the same for every
release of ocikit with the same flags, but other programs compress to other bytes: compare diff IDs
across tools, and digests within one. A layer that is compressed already is kept as it is.`,
		Example: `ocikit tar ./rootfs --mode normalize | ocikit gzip | ocikit digest
ocikit diffid layer.tar`,
	}
}

func statusTopic() Topic {
	return Topic{
		Name: "status", Short: "exit statuses, and what the caller should change",
		Text: statusText() + `

An error is one line on standard error, from the outside in: what was done, to what, where, and the
cause. A line that begins with "hint:" may follow. In a pipe the stages behind one that failed fail,
too: a tar, a stream of descriptors or an upload session that ends early is an error. The status of a
pipe in sh is still that of its last stage; "set -o pipefail", where the shell has it, counts all.`,
		Example: `ocikit verify app
ocikit digest --check sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 hello.txt`,
	}
}

// statusText is the list of exit statuses as paragraphs of a topic.
func statusText() string {
	var b strings.Builder
	for s := range strings.SplitSeq(statuses, "; ") {
		status, text, _ := strings.Cut(s, " ")
		fmt.Fprintf(&b, "  %-4s %s\n", status, text)
	}
	return strings.TrimRight(b.String(), "\n")
}

func uploadsTopic() Topic {
	return Topic{
		Name: "uploads", Short: "an upload step by step: sessions, chunks, and going on after a break",
		Text: `A registry takes a blob in three kinds of requests: POST opens a session, PATCH sends bytes as often as
need be, PUT closes it under the digest. "upload start", "upload chunk" and "upload finish" send one
each; "upload status" asks how many bytes the registry holds; "upload cancel" gives up. "upload blob"
does all of it, "push" does it for everything that an image needs.

Between the steps stands the session, one line of JSON: registry, repository, the location that the
registry gave, the offset, the limits of chunks, and the state of the hash, so that "finish" knows the
digest without reading anything again. It goes through the pipe, or --session FILE keeps it in a file
of mode 0600, which each step replaces as a whole. Who can read it can write to the upload.

After a break, "upload status" brings the session to where the registry stands, and "upload chunk" goes
on from there. "push" does so by itself, and with --state DIR in the next process as well.

Steps can go wrong on purpose, to see what a registry makes of it: --range, --no-content-range,
--content-type, --content-length, --cut-after, --digest. -v shows requests and answers, --curl prints
each request as a curl command, --trace=FILE keeps them as JSON.`,
		Example: `ocikit upload start localhost:5000/hello --session up.json
ocikit upload chunk --session up.json layer.tar --length 1000
ocikit upload status --session up.json
ocikit upload chunk --session up.json layer.tar
ocikit upload finish --session up.json`,
	}
}

func credentialsTopic() Topic {
	return Topic{
		Name: "credentials", Short: "where user names and passwords come from, and where they go",
		Text: `There is no login: ocikit uses what "docker login", "podman login" and others have stored, or what the
command line says. The first of these that exists counts:

  --username NAME --password-stdin    the password is the first line of standard input
  --authfile FILE                     this file alone
  $REGISTRY_AUTH_FILE                 this file alone
  $DOCKER_AUTH_CONFIG                 the text of such a file, and then
  ~/.docker/config.json               or $DOCKER_CONFIG/config.json
  containers/auth.json                below $XDG_RUNTIME_DIR (else /run/containers/UID/auth.json),
                                      then below $XDG_CONFIG_HOME (else ~/.config)

A file has keys like registry.test or registry.test/team/app; the longest one that fits the repository
wins. Where it names a helper, the program docker-credential-NAME is asked. "ocikit registry token REF
--explain" says which file, key or helper was used and what the registry granted, without a secret.

Credentials are sent to the registry that they are stored for, and to a token server only if it belongs
to it. They are never sent along a redirect to another host, and never printed: --curl writes them as
variables. If the registry lets nobody in without them, the exit status is 5.`,
		Example: `echo secret | ocikit registry ping localhost:5000 --username me --password-stdin
ocikit registry token localhost:5000/hello --explain`,
	}
}

func faultsTopic() Topic {
	var b strings.Builder
	for _, f := range serve.Faults() {
		fmt.Fprintf(&b, "  %-24s %s\n", f.Name, f.Short)
	}
	return Topic{
		Name: "faults", Short: "what a registry can do wrong on purpose, to test clients",
		Text: `"ocikit serve DIR --fault NAME[,NAME]..." is a registry that does something wrong, as real ones have
been seen to. Clients should succeed all the same, or say clearly why not, and never report success
for what is not there.

` + strings.TrimRight(b.String(), "\n"),
		Example: "ocikit serve --fault help",
	}
}

func toolsTopic() Topic {
	var b strings.Builder
	for _, w := range foreignWords() {
		fmt.Fprintf(&b, "  %-12s %s\n", w.word, w.hint)
	}
	return Topic{
		Name: "tools", Short: "what commands of other tools are called here",
		Text: `Who comes from docker, crane, skopeo, umoci, oras, regctl or podman may look for these words:

` + strings.TrimRight(b.String(), "\n"),
		Example: "ocikit help layouts",
	}
}

// findTopic returns the topic of that name.
func findTopic(name string) (Topic, bool) {
	table := topics()
	i := slices.IndexFunc(table, func(t Topic) bool { return t.Name == name })
	if i < 0 {
		return Topic{}, false
	}
	return table[i], true
}

// A textBlock is a paragraph to be filled, or lines that stand as they are.
type textBlock struct {
	text     string
	verbatim bool
}

// textBlocks splits the text of a topic.
func textBlocks(s string) []textBlock {
	var blocks []textBlock
	for p := range strings.SplitSeq(s, "\n\n") {
		if strings.HasPrefix(p, "  ") {
			blocks = append(blocks, textBlock{p, true})
			continue
		}
		blocks = append(blocks, textBlock{strings.Join(strings.Fields(p), " "), false})
	}
	return blocks
}
