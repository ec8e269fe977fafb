package main

import (
	"fmt"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci/registry/serve/fault"
)

// topics returns the table of topics, in the order of help.
func topics() []cli.Topic {
	return []cli.Topic{
		descriptorsTopic(), namesTopic(), layoutsTopic(), reproducibilityTopic(), statusTopic(),
		uploadsTopic(), credentialsTopic(), networkTopic(), deltasTopic(), faultsTopic(), toolsTopic(), jsonTopic(),
	}
}

func descriptorsTopic() cli.Topic {
	return cli.Topic{
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

func namesTopic() cli.Topic {
	return cli.Topic{
		Name: "names", Short: "how images, references and platforms are written",
		Text: `An IMAGE in a layout is DIR[:TAG][@DIGEST]. DIR is a directory, the first colon behind it starts the
tag, which may hold colons and slashes of its own. A layout with one image needs no tag; with several,
"latest" is meant. DIR:TAG@DIGEST asserts that the tag has that digest. "oci:" or "ocidir://" may stand
in front, as other tools want it. What refers to an image, as a signature, is not counted, and an index
of one image and its attestation is one image.

An IMAGE in an archive is FILE[:NAME][@DIGEST]. NAME may be as Docker shows it, as in FILE:alpine:3.
FILE is a tar of images, plain or compressed, or a directory of the parts that "ocikit split" made. It is
read in place; what is compressed goes into a temporary file where more than documents are read.
"oci-archive:" or "docker-archive:" may stand in front. A name that ends in .tar, .tar.gz, .tgz or .tar.zst is an archive, never a new directory, and what
"copy", "save" and "bundle" write under such a name is compressed accordingly; "-" is a plain one on
standard input or output.

An IMAGE in a registry is a REF with "docker://" in front, or bare where no file or directory has that
name. Commands that read images take all three; those that edit images take layouts.

A REF is HOST[:PORT]/REPO[:TAG][@DIGEST]. "docker://" may stand in front. A name whose
first part cannot be a host (no dot, no port, not localhost) is on Docker Hub: alpine is
docker.io/library/alpine. A registry on a loopback address may talk HTTP; any other one talks HTTPS
unless --plain-http says otherwise.

The API of a registry begins at HOST/v2/. One that lies below a path, as at HOST/PATH/v2/, has no REF,
here and in other tools: HOST/PATH/REPO means the repository PATH/REPO of the registry at HOST, and
what answers is 404 or the page of a web site. Give it a host name or a port of its own, or a proxy
that hands HOST/v2/ on. Where the path is part of the repository (HOST/v2/PATH/REPO/), it is written so.

A PLATFORM is OS/ARCH[/VARIANT][:OSVERSION], as linux/arm64/v8, or "local" for that of this machine.
Where an index has no image for a variant, the one for the nearest earlier variant is read, with a notice;
without a variant arm/v7 and arm64/v8 come first. A Windows version of three numbers means any build of
it. Commands that carry images (copy, push, pull, save, bundle) take several platforms, joined by commas:
what they carry is an index of those, with their attestations. An edit changes the image that is named;
the others stay.
A new image is for linux/amd64, on every machine, unless flags say otherwise. A command that wants one
image of an index that holds several must be told which, unless one alone is there; one that can take
all of them does.

A full name is HOST/REPO[:TAG][@DIGEST]. The digest is split off first: it is never a tag. Where images of
several places come together, one without a full name is called by its directory or file, as Docker
would call it: v1 of ./app is docker.io/library/app:v1.

In a layout of one repository images are called by their tags. In one of several they are called by their
full names, so that none takes the place of another, and none forgets where it is from: every image that
"pull --from-file" brings is, and so is one that "pull" or "load" brings when an image of another
repository has the tag. Signatures that are known by a tag are called likewise. The full name is the TAG
of the IMAGE then, as in store:quay.io/acme/app:v1. "push --all STORE HOST" puts each under the repository
and the tag of its full name, "push --all STORE HOST/PREFIX" below PREFIX; only the host is another one.

A list of images holds a NAME on each line, which is a REF. "NAME as OTHER" calls the image OTHER, which is
[HOST/]REPO[:TAG]; without a TAG it keeps that of NAME. --map OLD=NEW puts NEW in the place of OLD where a
full name begins with OLD up to the end of one of its parts: docker.io/library=base, quay.io=mirror/quay.
Of several that fit the longest counts. A GLOB has * for any characters, ? for one, [a-z] for some.`,
		Example: `ocikit resolve app:latest
ocikit ls app --digests
ocikit push --all app localhost:5000/copies --map docker.io/library=base`,
	}
}

func layoutsTopic() cli.Topic {
	return cli.Topic{
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

func reproducibilityTopic() cli.Topic {
	return cli.Topic{
		Name: "reproducibility", Short: "the same input gives the same bytes, and what counts as input",
		Text: `The same command on the same input writes the same bytes, so the same digests, whatever the machine,
system, user, umask, locale, time and number of processors are.

Input is: names, content, permissions and kinds of files, and which of them are hard links of each
other; the flags; SOURCE_DATE_EPOCH. Extended attributes count only as far as --xattrs says.

Not input, unless a flag asks for it: owners (0:0), times (0), the order of directories, the clock. If
SOURCE_DATE_EPOCH is set, times of files are kept, but none is later: so the older ones are input. With
--mtime epoch every time is SOURCE_DATE_EPOCH, and none is input; --mtime and --created set one.

The limits: Windows has no permission bits, so there all files and directories are 0755, as Docker has it.
Bytes made by a compiler are only as reproducible as the compiler. Gzip streams are the same for every
release of ocikit with the same flags, but other programs compress to other bytes: compare diff IDs
across tools, and digests within one. A layer that is compressed already is kept as it is. "ocikit why
A B" says what makes two digests differ.`,
		Example: `ocikit tar ./rootfs --mode normalize | ocikit gzip | ocikit digest
ocikit diffid layer.tar`,
	}
}

func statusTopic() cli.Topic {
	return cli.Topic{
		Name: "status", Short: "exit statuses, and what the caller should change",
		Text: cli.StatusText() + `

An error is one line on standard error, from the outside in: what was done, to what, where, and the
cause. A line that begins with "hint:" may follow. In a pipe the stages behind one that failed fail,
too: a tar, a stream of descriptors or an upload session that ends early is an error. The status of a
pipe in sh is still that of its last stage; "set -o pipefail", where the shell has it, counts all.`,
		Example: `ocikit verify app
ocikit digest --check sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 hello.txt`,
	}
}

func uploadsTopic() cli.Topic {
	return cli.Topic{
		Name: "uploads", Short: "an upload step by step: sessions, chunks, and going on after a break",
		Text: `A registry takes a blob in three kinds of requests: POST opens a session, PATCH sends bytes as often as
need be, PUT closes it under the digest. "upload start", "upload chunk" and "upload finish" send one
each; "upload status" asks how many bytes the registry holds; "upload cancel" abandons it. "upload blob"
does all of it, "push" does it for everything that an image needs.

Between the steps stands the session, one line of JSON: registry, repository, the location that the
registry gave, the offset, the limits of chunks, and the state of the hash, so that "finish" knows the
digest without reading anything again. It goes through the pipe, or --session FILE keeps it in a file
of mode 0600, which each step replaces as a whole. Who can read it can write to the upload.

After a break, "upload status" brings the session to the offset that the registry reports, and "upload
chunk" resumes there. "push" does so by itself, and with --state DIR in the next process as well.

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

func credentialsTopic() cli.Topic {
	return cli.Topic{
		Name: "credentials", Short: "where user names and passwords come from, and where they go",
		Text: `Nothing is looked for until a registry asks for credentials: what everybody may pull needs none. Then
the first of these that exists counts:

  --username NAME --password-stdin    the password is the first line of standard input
  --token TOKEN, --token-stdin        a bearer token, as "ocikit registry token" prints it
  $OCIKIT_USERNAME, $OCIKIT_PASSWORD  or $OCIKIT_TOKEN, for the registry $OCIKIT_REGISTRY alone
  --authfile FILE                     this file alone
  $REGISTRY_AUTH_FILE                 this file alone
  $DOCKER_AUTH_CONFIG                 the text of such a file, and then
  ~/.docker/config.json               or $DOCKER_CONFIG/config.json
  containers/auth.json                below $XDG_RUNTIME_DIR (else /run/containers/UID), then $XDG_CONFIG_HOME (else ~/.config)
  ~/.dockercfg                        the old form

"ocikit login", "docker login", "podman login" and others write such files. A file has keys like
registry.test or registry.test/team/app; the longest one that fits the repository wins. An entry holds
"auth" (NAME:PASSWORD in base64), "identitytoken", or "registrytoken", which is sent as it is.

Where a file names a store, "credsStore" for all registries or "credHelpers" for one, the program
docker-credential-NAME is asked, once. If it fails, what it says is shown and the request goes on
without credentials, never with those of another account. "ocikit registry token REF --explain" says
how the registry wants to be asked, which file, key or store was used and what was granted, without a
secret.

Credentials are sent to the registry that they are stored for, and to a token server only if it is on
the same host, known to belong to it, or named with --trust-realm or in $OCIKIT_TRUST_REALM. They are never sent along a redirect
to another host, and never printed: --curl writes them as variables. If the registry lets nobody in
without them, the exit status is 5.`,
		Example: `echo secret | ocikit login localhost:5000 --username me --password-stdin
ocikit registry token localhost:5000/hello --explain`,
	}
}

func networkTopic() cli.Topic {
	return cli.Topic{
		Name: "network", Short: "certificates, proxies and what else lies between here and a registry",
		Text: `A registry talks HTTPS. One on a loopback address may turn out to talk HTTP; any other one needs
--plain-http, or http:// in front of its name.

Certificates are checked against those of the system, which $SSL_CERT_FILE and $SSL_CERT_DIR replace
on Unix. Another authority is added by --ca-file, or by a folder that carries the name of the registry,
HOST[:PORT] ([ADDRESS]:PORT of IPv6), in the first of these that has one:

  $XDG_CONFIG_HOME/containers/certs.d    else ~/.config/...: podman, skopeo
  $XDG_CONFIG_HOME/docker/certs.d        else ~/.config/...: rootless Docker
  ~/.docker/certs.d                      Docker Desktop
  /etc/containers/certs.d, /etc/docker/certs.d

There NAME.crt is an authority, NAME.cert with NAME.key a certificate of ours, as with --cert-file and
--key-file. An authority counts wherever the registry leads: its token server, its storage. Our
certificate is for the registry alone, and --insecure for its host, on any port.

Proxies are those of $HTTPS_PROXY and $HTTP_PROXY; $NO_PROXY lists hosts, domains and networks that
need none; all may be written in lower case. Loopback addresses need none either. HTTP, HTTPS and SOCKS5
proxies will do.

  --header KEY:VALUE           send a header to the registry, and nowhere else
  --resolve HOST:PORT:ADDRESS  connect there in place of what HOST means; [::1] is an IPv6 HOST
  --strict-location            send no upload to another host than the registry's
  --timeout DURATION           give up when no byte moves for so long
  --retry N                    repeat what failed for a while, where that is safe

A proxy before a registry should send it the host with its port (Host $http_host in nginx) and
X-Forwarded-Proto, limit bodies generously (client_max_body_size 0) and not keep them
(proxy_request_buffering off). "ocikit registry probe" finds what is wrong there.`,
		Example: `ocikit registry ping localhost:5000 -v
ocikit registry probe localhost:5000/hello --only body-limit`,
	}
}

func deltasTopic() cli.Topic {
	return cli.Topic{
		Name: "deltas", Short: "what is in a bundle with deltas, and what a reader refuses",
		Text: `A bundle is the tar of an OCI layout that may lack blobs. A delta is one blob more in it, of the type
application/vnd.ocikit.layer.delta.v1, that no manifest names: other programs do not see it, and say
which layer is missing. ocikit-bundle.json has an object for each, in "deltas":

  digest, mediaType, size  of the layer that it makes
  tarSize                  the size of that layer, uncompressed
  delta, deltaSize         the digest and the size of the delta
  bases                    the layers that it copies from: digest, and size uncompressed

The bytes of a delta are:

  "okl" 01         the mark, with the version
  varint, recipe   the length of the recipe, 0 if the layer is a plain tar, and the
                   recipe, which compresses the tar as it was: "okr" 01,
                   segments, or the level of an encoder of ours
  the rest         the difference of the tars: "okd" 01, segments

The packages tarutil/recipe and tarutil/delta say what is in a segment. A segment of a recipe may go by
the bases: where the layer has contents of a base, the base's blob says how they are compressed.

A reader refuses another version; over 64 bases, and bases of over 4 TiB in sum; a base of another size
than said; a segment of over 8 MiB in the difference or of over 4 MiB in the recipe, and one that makes
more or fewer bytes than it says; a copy from outside of the bases. It writes no more than the layer
has, and stores it under its digest alone. A delta is kept while an image waits for it, and removed when
it has done its work.`,
		Example: "ocikit inventory app > have.txt\nocikit mutate app:latest --label release=2 -t v2\nocikit bundle app:v2 --have have.txt --delta --dry-run",
	}
}

func faultsTopic() cli.Topic {
	var b strings.Builder
	for _, f := range fault.All() {
		fmt.Fprintf(&b, "  %-24s %s\n", f.Name, f.Short)
	}
	return cli.Topic{
		Name: "faults", Short: "what a registry can do wrong on purpose, to test clients",
		Text: `"ocikit serve DIR --fault NAME[,NAME]..." is a registry that does something wrong, as real ones have
been seen to. Clients should succeed all the same, or say clearly why not, and never report success
for what is not there.

` + strings.TrimRight(b.String(), "\n"),
		Example: "ocikit serve --fault help",
	}
}

func toolsTopic() cli.Topic {
	var b strings.Builder
	for _, w := range foreign().Words {
		fmt.Fprintf(&b, "  %-12s %s\n", w.Word, w.Hint)
	}
	return cli.Topic{
		Name: "tools", Short: "what commands of other tools are called here",
		Text: `Coming from docker, crane, skopeo, umoci, oras, regctl or podman, you may look for these words:

` + strings.TrimRight(b.String(), "\n"),
		Example: "ocikit help layouts",
	}
}
