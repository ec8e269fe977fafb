package registrycmd

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"iter"
	"maps"
	"slices"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/progress"
	"ocikit/oci/registry"
)

// A registryStep is what the commands "registry ping", "registry head" … have in common:
// one operand, one client, one request.
type registryStep struct {
	verb, args, short, long, example, status string

	parse func(string) (registry.Reference, error)
	bind  func(fs *flag.FlagSet) registryAction // declares flags of its own
	data  bool                                  // standard input is data
	slow  bool                                  // there is --progress
}

// A registryAction is what a step does, with the operands behind the first.
type registryAction func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, args []string) error

func (s registryStep) command() cli.Command {
	return cli.Command{
		Name: "registry " + s.verb, Args: s.args, Group: cli.GroupRegistry,
		Short: s.short, Long: s.long, Example: s.example, Status: s.status, Progress: s.slow,
		Bind: func(fs *flag.FlagSet) cli.Action {
			flags := commonflags.BindRegistry(fs)
			step := s.bind(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				c, ref, err := flags.Dial(env, s.parse, args[0], s.data && (len(args) < 2 || args[1] == "-"))
				if err != nil {
					return err
				}

				// A name without a host is a repository of Docker Hub. If such a request fails and
				// there is an image of that name here, the user may have meant the image.
				if err = step(ctx, env, c, ref, args[1:]); err != nil && operands.IsImage(args[0]) && !operands.NamesRegistry(args[0]) {
					err = cli.WithHint(err, "%q was taken for a name on Docker Hub, but is an image in a layout, too; `ocikit help names`", args[0])
				}
				return err
			}
		},
	}
}

func registryCommands() []cli.Command {
	return []cli.Command{
		registryPing().command(), registryToken().command(), registryTags().command(), registryCatalog().command(),
		registryHead().command(), registryGet().command(), registryPut().command(),
		registryDelete().command(), registryReferrers().command(), registryProbe().command(),
	}
}

func registryPing() registryStep {
	return registryStep{
		verb: "ping", args: "HOST", short: "ask whether there is a registry",
		long: `Ping sends GET /v2/, with credentials if the registry wants some, and prints the URL that answered,
then a line for each way in which it wants them. It does so also when it is not let in. It says nothing
about what may be written. --json prints one object.`,
		example: "ocikit registry ping localhost:5000",
		status:  "5 if the registry wants credentials, and has not got the right ones",
		parse:   registry.ParseHost,
		bind: func(fs *flag.FlagSet) registryAction {
			asJSON := cli.BindJSON(fs)
			return func(ctx context.Context, env *cli.Env, c *registry.Client, _ registry.Reference, _ []string) error {
				p, err := c.Ping(ctx)

				// A refusal that says how to log in is an answer as well: it is printed beside the
				// error.
				if err != nil && len(p.Challenges) == 0 {
					return err
				}

				if *asJSON {
					return errors.Join(err, show.WriteJSON(env.Stdout, p))
				}

				lines := []string{p.URL}
				for _, ch := range p.Challenges {
					line := "wants " + ch.Scheme
					for _, k := range slices.Sorted(maps.Keys(ch.Params)) {
						line += fmt.Sprintf(" %s=%q", k, ch.Params[k])
					}
					lines = append(lines, line)
				}

				return errors.Join(err, show.WriteLines(env.Stdout, lines))
			}
		},
	}
}

func registryToken() registryStep {
	return registryStep{
		verb: "token", args: "REF", short: "authorize, and explain how",
		long: `Token authorizes for REF as a push or pull would, and prints the token. With --explain it
prints one JSON object instead: how the registry wants to be asked, which file, key or helper the
credentials came from, the realm, the scopes that were asked for and granted, and when the
token ends; no secret. It does so also when the registry refuses them. A token allows what it was asked
for: "--actions pull,push" is for uploads. Every command that talks to a registry takes it with --token.`,
		example: "ocikit registry token localhost:5000/hello --explain",
		status:  "5 if the registry does not take the credentials",
		parse:   registry.ParseReference,
		bind: func(fs *flag.FlagSet) registryAction {
			explain := fs.Bool("explain", false, "say how, without the token")
			actions := fs.String("actions", "pull", "ask for these `ACTIONS`: pull, \"pull,push\" or delete")
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, _ []string) error {
				info, err := c.Token(ctx, "repository:"+ref.Repo+":"+*actions)
				if info.Less != "" && !*explain {
					env.Notice("ocikit: %s", info.Less)
				}

				// The explanation matters most when the registry has refused.
				if *explain && info.Credential.Source != "" {
					return errors.Join(err, show.WriteJSON(env.Stdout, info))
				}
				if err != nil {
					return err
				}
				if info.Token == "" {
					return fmt.Errorf("%s: the registry gives no token, its scheme is %s", ref.Host, info.Scheme)
				}
				return show.WriteLines(env.Stdout, []string{info.Token})
			}
		},
	}
}

func registryTags() registryStep {
	return registryStep{
		verb: "tags", args: "HOST/REPO", short: "list the tags of a repository",
		long:    "Tags prints a tag on each line, in the order of the registry, however many pages it takes.",
		example: "ocikit registry tags localhost:5000/hello",
		parse:   registry.ParseRepository,
		bind: func(fs *flag.FlagSet) registryAction {
			asJSON := cli.BindJSON(fs)
			n := fs.Int("page", 0, "ask for `N` tags a page")
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, _ []string) error {
				return printNames(env, c.Tags(ctx, ref.Repo, *n), "tag", *asJSON)
			}
		},
	}
}

// printNames prints a name on each line, or an object with it as the member.
func printNames(env *cli.Env, names iter.Seq2[string, error], member string, asJSON bool) error {
	for name, err := range names {
		if err != nil {
			return err
		}
		if err := show.WriteRecord(env.Stdout, asJSON, map[string]string{member: name}, name); err != nil {
			return err
		}
	}
	return nil
}

func registryCatalog() registryStep {
	return registryStep{
		verb: "catalog", args: "HOST", short: "list the repositories of a registry",
		long: `Catalog prints a repository on each line, in the order of the registry, however many pages it takes.
Registries need not have such a list: Docker Hub and others that many share have none, or show it to
administrators only.`,
		example: "ocikit registry catalog localhost:5000",
		status:  "4 if the registry has no such list",
		parse:   registry.ParseHost,
		bind: func(fs *flag.FlagSet) registryAction {
			asJSON := cli.BindJSON(fs)
			n := fs.Int("page", 0, "ask for pages of `N` repositories")
			return func(ctx context.Context, env *cli.Env, c *registry.Client, _ registry.Reference, _ []string) error {
				return printNames(env, c.Catalog(ctx, *n), "repository", *asJSON)
			}
		},
	}
}

func registryHead() registryStep {
	return registryStep{
		verb: "head", args: "REF", short: "ask for the descriptor of a manifest or blob",
		long: `Head asks whether the manifest that REF names is there, and prints its descriptor as the
registry describes it. With --blob REF names a blob by its digest.`,
		example: "ocikit registry head localhost:5000/hello:latest",
		status:  "4 if it is not there",
		parse:   registry.ParseReference,
		bind: func(fs *flag.FlagSet) registryAction {
			blob := bindBlob(fs)
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, _ []string) error {
				desc, err := headOf(ctx, c, ref, *blob)
				if err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

// bindBlob declares the flag that has REF name a blob.
func bindBlob(fs *flag.FlagSet) *bool {
	return fs.Bool("blob", false, "REF names a blob, as HOST/REPO@DIGEST")
}

// headOf asks for the descriptor of the manifest or blob that ref names. Registries do not know the
// media types of blobs, so a blob is one of plain bytes.
func headOf(ctx context.Context, c *registry.Client, ref registry.Reference, blob bool) (oci.Descriptor, error) {
	if !blob {
		return c.HeadManifest(ctx, ref.Repo, ref.Name())
	}
	if ref.Digest.IsZero() {
		return oci.Descriptor{}, cli.Usagef("%s: a blob is named by its digest", ref)
	}
	size, err := c.HeadBlob(ctx, ref.Repo, ref.Digest)
	if err == nil && size < 0 {
		err = fmt.Errorf("blob %s: the registry does not say its size", ref.Digest)
	}
	return oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: ref.Digest, Size: size}, err
}

func registryGet() registryStep {
	return registryStep{
		verb: "get", args: "REF", short: "fetch a manifest or a blob",
		long: `Get prints the bytes of the manifest that REF names, exactly. They are checked against the
digest if REF has one. With --blob REF names a blob by its digest; it is checked while it is printed,
and fetched on from where a connection breaks.`,
		example: "ocikit registry get localhost:5000/hello:latest",
		status:  "1 if the bytes are not what the digest names, 4 if there are none",
		parse:   registry.ParseReference, slow: true,
		bind: func(fs *flag.FlagSet) registryAction {
			blob := bindBlob(fs)
			out := commonflags.BindOutput(fs)
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, _ []string) error {
				if !*blob {
					_, data, err := c.GetManifest(ctx, ref.Repo, ref.Name())
					if err != nil {
						return err
					}
					return env.PutOut(*out, data)
				}

				// The size from HEAD is checked along with the digest, and shows how far the
				// transfer is.
				desc, err := headOf(ctx, c, ref, true)
				if err != nil {
					return err
				}

				r, err := c.OpenBlob(ctx, ref.Repo, desc)
				if err != nil {
					return err
				}
				defer r.Close()

				task := progress.NewTask(env.Report(), progress.Event{Digest: desc.Digest, Size: desc.Size})
				defer task.Stop()
				return env.ToOutput(*out, false, func(w io.Writer) error {
					_, err := oci.CopyUntil(ctx, w, progress.Reader(r, task))
					return err
				})
			}
		},
	}
}

// putUnder stores a manifest under the names of ref. Under a tag alone registries compute its
// digest with sha256; a digest of another algorithm has to be in the request.
func putUnder(ctx context.Context, c *registry.Client, ref registry.Reference, desc oci.Descriptor, data []byte) error {
	if ref.Tag == "" || ref.Digest.IsZero() || desc.Digest.Algorithm() == digest.SHA256 {
		name := cmp.Or(ref.Tag, ref.Name())
		_, err := c.PutManifest(ctx, ref.Repo, name, desc.MediaType, data)
		return err
	}

	// This is end-7b of the distribution-spec: the digest in the path, the tag as a parameter. A
	// registry that does not know it ignores the parameter and reports success, so success alone
	// does not mean that the tag is set.
	result, err := c.PutManifest(ctx, ref.Repo, desc.Digest.String(), desc.MediaType, data, ref.Tag)
	if err == nil && len(result.Tags) == 0 {
		err = fmt.Errorf("%s: the registry has the manifest now, and does not say that it set the tag", ref)
	}
	return err
}

func registryPut() registryStep {
	return registryStep{
		verb: "put", args: "REF [FILE]", short: "store a manifest under a tag or its digest",
		long: `Put sends FILE, or standard input, as a manifest, byte for byte, and prints its descriptor. The
media type is what the document says, or --media-type. Blobs that it names must be there already, in
most registries.

REF@DIGEST stores it under its digest, which must be that of FILE. REF:TAG@DIGEST names it as well: a
digest of another algorithm than sha256 goes along with the tag, as end-7b of the distribution-spec has
it, which not every registry knows.`,
		example: "ocikit cat app | ocikit registry put localhost:5000/hello:latest",
		parse:   registry.ParseReference, data: true,
		bind: func(fs *flag.FlagSet) registryAction {
			mediaType := fs.String("media-type", "", "send the media type `TYPE`")
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, args []string) error {
				desc, data, err := readManifest(env, cli.FileOperand(args), *mediaType, ref.Digest)
				if err != nil {
					return err
				}

				err = putUnder(ctx, c, ref, desc, data)
				if status, ok := errors.AsType[*registry.StatusError](err); ok && status.Has("MANIFEST_BLOB_UNKNOWN") {
					err = cli.WithHint(err, "`ocikit upload blob` sends what it lacks, `ocikit push` an image with all that it needs")
				}
				if err != nil {
					return err
				}

				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

// readManifest reads a manifest or an index, and returns its descriptor, of the media type that it says
// if none is given. Its digest must be want, unless that is zero.
func readManifest(env *cli.Env, name, mediaType string, want digest.Digest) (oci.Descriptor, []byte, error) {
	data, err := env.Document(name)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}

	desc := oci.Describe(cmp.Or(mediaType, oci.SniffDocument(data)), data)
	if want.Verifiable() {
		desc.Digest = want.Algorithm().FromBytes(data)
	}

	switch {
	case len(data) > oci.MaxDocument:
		err = fmt.Errorf("over %d bytes: %w", oci.MaxDocument, oci.ErrMalformed)
	case desc.MediaType == "":
		err = fmt.Errorf("neither a manifest nor an index: %w", oci.ErrMalformed)
	case !want.IsZero() && want != desc.Digest:
		err = fmt.Errorf("got %s, want %s: %w", desc.Digest, want, digest.ErrMismatch)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", cli.InputName(name), err)
	}

	return desc, data, err
}

func registryDelete() registryStep {
	return registryStep{
		verb: "delete", args: "REF", short: "delete a tag, a manifest or a blob",
		long: `Delete asks the registry to remove what REF names: the tag, or with HOST/REPO@DIGEST the
manifest, or with --blob the blob. The tag or the digest must be written out. Many registries do not
allow it.`,
		example: "ocikit registry delete localhost:5000/hello:old",
		status:  "4 if it is not there, 1 if the registry does not delete",
		parse:   registry.ParseReference,
		bind: func(fs *flag.FlagSet) registryAction {
			blob := bindBlob(fs)
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, _ []string) error {
				switch {
				case *blob && ref.Digest.IsZero(), ref.Tag == "" && ref.Digest.IsZero():
					return cli.Usagef("%s: name what to delete, by tag or by digest", ref)
				case *blob:
					return c.DeleteBlob(ctx, ref.Repo, ref.Digest)
				}
				return c.DeleteManifest(ctx, ref.Repo, ref.Name())
			}
		},
	}
}

func registryReferrers() registryStep {
	return registryStep{
		verb: "referrers", args: "REF", short: "list what refers to a manifest: signatures, SBOMs",
		long: `Referrers prints the descriptors of the manifests whose subject is REF. Where the registry has
no such list, the tag that stands in for it is read.`,
		example: "ocikit registry referrers localhost:5000/hello:latest",
		parse:   registry.ParseReference,
		bind: func(fs *flag.FlagSet) registryAction {
			artifactType := fs.String("artifact-type", "", "list those of the artifact type `TYPE` alone")
			return func(ctx context.Context, env *cli.Env, c *registry.Client, ref registry.Reference, _ []string) error {
				// The referrers API wants a digest, so a tag is resolved first.
				subject := ref.Digest
				if subject.IsZero() {
					desc, err := c.HeadManifest(ctx, ref.Repo, ref.Name())
					if err != nil {
						return err
					}
					subject = desc.Digest
				}
				l, err := c.Referrers(ctx, ref.Repo, subject, *artifactType)
				if err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, l.Descriptors...)
			}
		},
	}
}
