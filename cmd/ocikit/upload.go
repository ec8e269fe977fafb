package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	iofs "io/fs"
	"os"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/pushcmd"
)

func uploadCommands() []Command {
	return []Command{
		uploadStart(), uploadChunk(), uploadStatus(), uploadFinish(), uploadCancel(), uploadMount(), uploadBlob(),
	}
}

// sessionHelp is what the help of each step says about sessions.
const sessionHelp = `The session is one line of JSON that goes through the pipe, or lives in the file that --session
names, which each step replaces. Whoever can read it can write to the upload.`

// uploadFlags are the flags of every upload step.
type uploadFlags struct {
	registry *registryFlags
	session  *string
}

func bindUploadFlags(fs *flag.FlagSet) uploadFlags {
	return uploadFlags{bindRegistryFlags(fs), fs.String("session", "", "keep the session in `file`, not in the pipe")}
}

// load reads the session from the file or from standard input.
func (u uploadFlags) load(env *Env) (*pushcmd.Session, error) {
	if *u.session != "" {
		s, err := pushcmd.LoadSession(*u.session)
		if errors.Is(err, iofs.ErrNotExist) {
			err = withHint(fmt.Errorf("session %q: %w", *u.session, pathless(err)), "`ocikit upload start HOST/REPO --session %s` begins one", *u.session)
		}
		return s, err
	}
	if env.InTTY {
		return nil, usagef("no session: pipe from `ocikit upload start`, or name a file with --session")
	}
	s, err := pushcmd.ReadSession(env.Stdin)
	if err != nil {
		return nil, withHint(fmt.Errorf("standard input: %w", err), "pipe from `ocikit upload start`, or name a file with --session")
	}
	return s, nil
}

// save writes the session where it came from, or to standard output.
func (u uploadFlags) save(env *Env, s *pushcmd.Session) error {
	if *u.session != "" {
		return s.Save(*u.session)
	}
	return s.Write(env.Stdout)
}

// remove removes the file of a session that is over.
func (u uploadFlags) remove() error {
	if *u.session == "" {
		return nil
	}
	return pushcmd.RemoveSession(*u.session)
}

// open reads the session and makes a client for its registry.
func (u uploadFlags) open(env *Env) (*pushcmd.Session, *registry.Client, error) {
	s, err := u.load(env)
	if err != nil {
		return nil, nil, err
	}
	c, err := u.registry.client(env, s.Registry, *u.session == "")
	return s, c, err
}

// wrongFlags send on purpose what is not right, to see what a registry makes of it.
type wrongFlags struct {
	body registry.Body
}

func bindWrongFlags(fs *flag.FlagSet) *wrongFlags {
	w := new(wrongFlags)
	fs.StringVar(&w.body.ContentRange, "range", "", "send this Content-Range, `a-b`, right or wrong")
	fs.BoolVar(&w.body.NoRange, "no-content-range", false, "send no Content-Range")
	fs.StringVar(&w.body.ContentType, "content-type", "", "send this Content-Type, `type`, right or wrong")
	fs.Int64Var(&w.body.ContentLength, "content-length", 0, "send this Content-Length, `n`, right or wrong")
	cut := (*sizeFlag)(&w.body.CutAfter)
	fs.Var(cut, "cut-after", "break the connection after `size` bytes")
	return w
}

func uploadStart() Command {
	return Command{
		Name: "upload start", Args: "HOST/REPO", Group: groupRegistry,
		Short:   "open an upload session",
		Long:    "Start sends POST /v2/REPO/blobs/uploads/ and prints the session that the registry opens.\n\n" + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello --session up.json",
		Bind: func(fs *flag.FlagSet) Action {
			u := bindUploadFlags(fs)
			algorithm := fs.String("algorithm", "sha256", "hash with `name`: sha256 or sha512")
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 1 {
					return usagef("%d operands, want HOST/REPO", len(args))
				}
				ref, err := parseRef(registry.ParseRepository, args[0])
				if err != nil {
					return err
				}
				alg := digest.Algorithm(*algorithm)
				if !alg.Available() {
					return usagef("algorithm %q: want sha256 or sha512", string(alg))
				}
				c, err := u.registry.client(env, ref, false)
				if err != nil {
					return err
				}
				defer u.registry.close(&err)
				defer c.Close()
				s, err := pushcmd.Start(ctx, c, ref.Repo, alg)
				if err != nil {
					return err
				}
				return u.save(env, s)
			}
		},
	}
}

func uploadChunk() Command {
	return Command{
		Name: "upload chunk", Args: "FILE|-", Group: groupRegistry, Progress: true,
		Short: "send the next bytes of an upload",
		Long: `Chunk sends one PATCH. FILE stands for the whole blob: its bytes from the session's offset on are
sent, --length of them at most. With "-", which takes --session, the bytes on standard input are the
next ones of the blob; they are sent in pieces of 16 MiB, since a registry wants to know their
number first. The bytes are hashed while they are sent, so "upload finish" knows the digest.

` + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello | ocikit upload chunk layer.tar.gz | ocikit upload finish",
		Status:  "1 if the registry refuses the chunk: `ocikit upload status` asks it where it stands",
		Bind: func(fs *flag.FlagSet) Action {
			u := bindUploadFlags(fs)
			length := new(sizeFlag)
			fs.Var(length, "length", "send at most `size` bytes")
			wrong := bindWrongFlags(fs)
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 1 {
					return usagef("%d operands, want FILE or -", len(args))
				}
				if args[0] == "-" && *u.session == "" {
					return usagef("standard input cannot hold the session and the bytes: name a file with --session")
				}
				s, c, err := u.open(env)
				if err != nil {
					return err
				}
				defer u.registry.close(&err)
				defer c.Close()
				var src io.Reader = env.Stdin
				if args[0] != "-" {
					f, err := os.Open(args[0])
					if err != nil {
						return fmt.Errorf("%q: %w", args[0], pathless(err))
					}
					defer f.Close()
					src = f
				}
				o := pushcmd.ChunkOptions{Length: int64(*length), Body: wrong.body, Progress: env.progress.report(), Name: inputLabel(args[0])}
				if *u.session != "" {
					o.Save = func(s *pushcmd.Session) error { return s.Save(*u.session) }
				}
				result, err := s.Chunk(ctx, c, src, o)
				if err != nil {
					return withHint(err, "`ocikit upload status` asks the registry how many bytes it holds, and brings the session there")
				}
				env.detail("ocikit: sent %d bytes in %d requests, the session is at %d", result.Sent, result.Requests, s.Upload.Offset)
				if *u.session != "" && result.Requests > 0 {
					return nil // saved after each request
				}
				return u.save(env, s)
			}
		},
	}
}

func uploadStatus() Command {
	return Command{
		Name: "upload status", Group: groupRegistry,
		Short: "ask the registry how many bytes of an upload it holds",
		Long: `Status sends GET to the session's location, and prints the number of bytes that the registry
says it holds. The session in the file is brought there. In a pipe, without --session, the session
that goes on is printed in place of the number.

` + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello --session up.json\nocikit upload status --session up.json",
		Status:  "4 if the registry does not know the session any more",
		Bind: func(fs *flag.FlagSet) Action {
			u := bindUploadFlags(fs)
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 0 {
					return usagef("no operands are taken")
				}
				s, c, err := u.open(env)
				if err != nil {
					return err
				}
				defer u.registry.close(&err)
				defer c.Close()
				result, err := s.Status(ctx, c)
				if err != nil {
					return err
				}
				if result.Server < 0 {
					env.notice("ocikit: the registry does not say how many bytes it holds; the session stays at %d", result.Offset)
				}
				if result.Ambiguous {
					env.notice("ocikit: the registry says 0-0, which means one byte or none")
				}
				env.detail("ocikit: the session was at %d, it is at %d", result.Before, result.Offset)
				if err := u.save(env, s); err != nil || *u.session == "" {
					return err
				}
				return writeLines(env.Stdout, []string{fmt.Sprint(result.Offset)})
			}
		},
	}
}

func uploadFinish() Command {
	return Command{
		Name: "upload finish", Args: "[FILE]", Group: groupRegistry, Progress: true,
		Short: "close an upload under its digest",
		Long: `Finish sends PUT with the digest of the bytes that were sent, which the session knows, and
prints the descriptor of the blob. With FILE, which stands for the whole blob, the bytes from the
session's offset on go with the request. The session's file is removed.

--digest gives the digest; one that is known to be wrong is refused before anything is sent, unless
--force is given, too.

` + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello | ocikit upload chunk layer.tar.gz | ocikit upload finish",
		Bind: func(fs *flag.FlagSet) Action {
			u := bindUploadFlags(fs)
			want := fs.String("digest", "", "close the upload under this `digest`")
			force := fs.Bool("force", false, "send --digest even if it is wrong")
			wrong := bindWrongFlags(fs)
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) > 1 {
					return usagef("%d operands, want FILE at most", len(args))
				}
				o := pushcmd.FinishOptions{Force: *force, Body: wrong.body, Progress: env.progress.report()}
				if *want != "" {
					if o.Digest, err = parseDigest("digest", *want); err != nil {
						return err
					}
				}
				if len(args) == 1 {
					if o.Rest, err = os.Open(args[0]); err != nil {
						return fmt.Errorf("%q: %w", args[0], pathless(err))
					}
					defer o.Rest.Close()
				}
				s, c, err := u.open(env)
				if err != nil {
					return err
				}
				defer u.registry.close(&err)
				defer c.Close()
				desc, err := s.Finish(ctx, c, o)
				if errors.Is(err, digest.ErrMismatch) && !*force {
					return withHint(err, "nothing was sent; --force sends it all the same")
				}
				if err != nil {
					return err
				}
				if err := u.remove(); err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}

func uploadCancel() Command {
	return Command{
		Name: "upload cancel", Group: groupRegistry,
		Short:   "give an upload up",
		Long:    "Cancel sends DELETE to the session's location; the registry forgets the bytes. The session's file is removed.\n\n" + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello | ocikit upload cancel",
		Bind: func(fs *flag.FlagSet) Action {
			u := bindUploadFlags(fs)
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 0 {
					return usagef("no operands are taken")
				}
				s, c, err := u.open(env)
				if err != nil {
					return err
				}
				defer u.registry.close(&err)
				defer c.Close()
				if err := s.Cancel(ctx, c); err != nil {
					return err
				}
				return u.remove()
			}
		},
	}
}

func uploadMount() Command {
	return Command{
		Name: "upload mount", Args: "HOST/REPO DIGEST", Group: groupRegistry,
		Short: "ask the registry to take a blob over from another repository",
		Long: `Mount sends POST /v2/REPO/blobs/uploads/?mount=DIGEST&from=REPO and prints the descriptor of the
blob if the registry took it over. If not, the registry has opened an upload in its place: it is kept
in the file that --session names, or else cancelled.`,
		Example: "ocikit upload mount localhost:5000/copy \"$(ocikit digest layer.tar.gz)\" --from hello",
		Status:  "1 if the registry did not take the blob over",
		Bind: func(fs *flag.FlagSet) Action {
			u := bindUploadFlags(fs)
			from := fs.String("from", "", "the `repository` that has the blob; any if it is not named")
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 2 {
					return usagef("%d operands, want HOST/REPO and DIGEST", len(args))
				}
				ref, err := parseRef(registry.ParseRepository, args[0])
				if err != nil {
					return err
				}
				d, err := digest.Parse(args[1])
				if err != nil || !d.Verifiable() {
					return usagef("%q: want a digest by sha256 or sha512", args[1])
				}
				c, err := u.registry.client(env, ref, false)
				if err != nil {
					return err
				}
				defer u.registry.close(&err)
				defer c.Close()
				s, err := pushcmd.Mount(ctx, c, ref.Repo, d, *from)
				if err != nil {
					return err
				}
				if s == nil {
					return printMounted(ctx, env, c, ref.Repo, d)
				}
				if *u.session != "" {
					err = s.Save(*u.session)
				} else {
					err = s.Cancel(ctx, c)
				}
				source := "another repository"
				if *from != "" {
					source = fmt.Sprintf("%q", *from)
				}
				refused := fmt.Errorf("blob %s: the registry did not take it over from %s", d, source)
				return errors.Join(withHint(refused, "it must be there, and you must be allowed to read it; `ocikit upload blob` sends it"), err)
			}
		},
	}
}

func printMounted(ctx context.Context, env *Env, c *registry.Client, repo string, d digest.Digest) error {
	size, err := c.HeadBlob(ctx, repo, d)
	if err != nil {
		return fmt.Errorf("after the mount: %w", err)
	}
	return oci.WriteDescriptors(env.Stdout, oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: d, Size: max(size, 0)})
}

func uploadBlob() Command {
	return Command{
		Name: "upload blob", Args: "HOST/REPO FILE", Group: groupRegistry, Progress: true,
		Short: "send a whole blob: start, chunk, finish",
		Long: `Blob opens an upload, sends FILE in one PATCH, closes it under the digest of what was sent, and
prints the descriptor. It does not ask whether the blob is there, and it does not try again: it shows
what a registry makes of each request, with -v, --trace or --curl. "ocikit push" is the sturdy one.`,
		Example: "ocikit upload blob localhost:5000/hello layer.tar.gz -v",
		Bind: func(fs *flag.FlagSet) Action {
			flags := bindRegistryFlags(fs)
			return func(ctx context.Context, env *Env, args []string) (err error) {
				if len(args) != 2 {
					return usagef("%d operands, want HOST/REPO and FILE", len(args))
				}
				ref, err := parseRef(registry.ParseRepository, args[0])
				if err != nil {
					return err
				}
				in, err := env.input(args[1])
				if err != nil {
					return err
				}
				defer in.Close()
				c, err := flags.client(env, ref, args[1] == "-")
				if err != nil {
					return err
				}
				defer flags.close(&err)
				defer c.Close()
				var src io.Reader = in
				if f, ok := in.(*named); ok {
					src = f.File
				}
				s, err := pushcmd.Start(ctx, c, ref.Repo, digest.SHA256)
				if err != nil {
					return err
				}
				if _, err := s.Chunk(ctx, c, src, pushcmd.ChunkOptions{Progress: env.progress.report(), Name: inputLabel(args[1])}); err != nil {
					return err
				}
				desc, err := s.Finish(ctx, c, pushcmd.FinishOptions{})
				if err != nil {
					return err
				}
				return oci.WriteDescriptors(env.Stdout, desc)
			}
		},
	}
}
