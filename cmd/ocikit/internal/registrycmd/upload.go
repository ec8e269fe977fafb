package registrycmd

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	iofs "io/fs"
	"os"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/pushcmd"
)

func uploadCommands() []cli.Command {
	return []cli.Command{
		uploadStart(), uploadChunk(), uploadStatus(), uploadFinish(), uploadCancel(), uploadMount(), uploadBlob(),
	}
}

// sessionHelp is what the help of each step says about sessions.
const sessionHelp = `The session is one line of JSON that goes through the pipe, or lives in the file that --session
names, which each step replaces, one step at a time. Whoever can read it can write to the upload.`

// uploadFlags are the flags of every upload step.
type uploadFlags struct {
	registry *commonflags.Registry
	session  *string
}

func bindUploadFlags(fs *flag.FlagSet) uploadFlags {
	return uploadFlags{commonflags.BindRegistry(fs), fs.String("session", "", "keep the session in `FILE`, not in the pipe")}
}

// alone returns an action that has the session's file for itself while it runs. Where no file can be,
// it is the action that says so.
func (u uploadFlags) alone(run cli.Action) cli.Action {
	return func(ctx context.Context, env *cli.Env, args []string) error {
		if *u.session == "" {
			return run(ctx, env, args)
		}
		unlock, err := pushcmd.LockSession(*u.session)
		switch {
		case err == nil:
			defer unlock()
		case !errors.Is(err, iofs.ErrNotExist):
			return err
		}
		return run(ctx, env, args)
	}
}

// load reads the session from the file or from standard input.
func (u uploadFlags) load(env *cli.Env) (*pushcmd.Session, error) {
	if *u.session != "" {
		s, err := pushcmd.LoadSession(*u.session)
		if errors.Is(err, iofs.ErrNotExist) {
			err = cli.WithHint(fmt.Errorf("session %q: %w", *u.session, oci.Pathless(err)), "`ocikit upload start HOST/REPO --session %s` begins one", *u.session)
		}
		return s, err
	}

	if env.InTTY {
		return nil, cli.Usagef("no session: pipe from `ocikit upload start`, or name a file with --session")
	}

	s, err := pushcmd.ReadSession(env.Stdin)
	if err != nil {
		return nil, cli.WithHint(fmt.Errorf("standard input: %w", err), "pipe from `ocikit upload start`, or name a file with --session")
	}

	return s, nil
}

// save writes the session to the file that --session names, or to standard output, where the next
// step reads it.
func (u uploadFlags) save(env *cli.Env, s *pushcmd.Session) error {
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
func (u uploadFlags) open(env *cli.Env) (*pushcmd.Session, *registry.Client, error) {
	s, err := u.load(env)
	if err != nil {
		return nil, nil, err
	}

	// Without --session standard input is the session, so no secret can be read from it.
	c, err := u.registry.Client(env, s.Registry, *u.session == "")
	return s, c, err
}

// wrongFlags make a step send headers and bodies that may be wrong, to see what a registry makes of
// them.
type wrongFlags struct {
	body registry.Body
}

func bindWrongFlags(fs *flag.FlagSet) *wrongFlags {
	w := new(wrongFlags)
	fs.StringVar(&w.body.ContentRange, "range", "", "send the Content-Range `A-B`, right or wrong")
	fs.BoolVar(&w.body.NoRange, "no-content-range", false, "send no Content-Range")
	fs.StringVar(&w.body.ContentType, "content-type", "", "send the Content-Type `TYPE`, right or wrong")
	fs.Int64Var(&w.body.ContentLength, "content-length", 0, "send the Content-Length `N`, right or wrong")
	cut := (*cli.Size)(&w.body.CutAfter)
	fs.Var(cut, "cut-after", "break the connection after `SIZE` bytes")
	return w
}

func uploadStart() cli.Command {
	return cli.Command{
		Name: "upload start", Args: "HOST/REPO", Group: cli.GroupRegistry,
		Short:   "open an upload session",
		Long:    "Start sends POST /v2/REPO/blobs/uploads/ and prints the session that the registry opens.\n\n" + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello --session up.json",
		Bind: func(fs *flag.FlagSet) cli.Action {
			u := bindUploadFlags(fs)
			algorithm := commonflags.Algorithm(fs)
			return u.alone(func(ctx context.Context, env *cli.Env, args []string) error {
				c, ref, err := u.registry.Dial(env, registry.ParseRepository, args[0], false)
				if err != nil {
					return err
				}
				s, err := pushcmd.Start(ctx, c, ref.Repo, *algorithm)
				if err != nil {
					return err
				}
				return u.save(env, s)
			})
		},
	}
}

func uploadChunk() cli.Command {
	return cli.Command{
		Name: "upload chunk", Args: "FILE|-", Group: cli.GroupRegistry, Progress: true,
		Short: "send the next bytes of an upload",
		Long: `Chunk sends one PATCH. FILE stands for the whole blob: its bytes from the session's offset on are
sent, --length of them at most. With "-", which takes --session, the bytes on standard input are the
next ones of the blob; they are sent in pieces of 16 MiB, since a registry wants to know their
number first. The bytes are hashed while they are sent, so "upload finish" knows the digest.

` + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello | ocikit upload chunk layer.tar.gz | ocikit upload finish",
		Status:  "1 if the registry refuses the chunk: `ocikit upload status` asks it where it stands",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(chunkFlags)
			f.uploadFlags = bindUploadFlags(fs)
			f.length = new(cli.Size)
			fs.Var(f.length, "length", "send at most `SIZE` bytes")
			f.wrong = bindWrongFlags(fs)
			return f.alone(f.run)
		},
	}
}

// chunkFlags are the flags of upload chunk.
type chunkFlags struct {
	uploadFlags
	length *cli.Size
	wrong  *wrongFlags
}

// run sends the next bytes, and keeps the session as it is then.
func (f *chunkFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	if args[0] == "-" && *f.session == "" {
		return cli.Usagef("standard input cannot hold the session and the bytes: name a file with --session")
	}

	s, c, err := f.open(env)
	if err != nil {
		return err
	}

	var src io.Reader = env.Stdin
	if args[0] != "-" {
		file, err := env.OpenFile(args[0], os.O_RDONLY, 0)
		if err != nil {
			return err
		}
		defer file.Close()
		src = file
	}

	o := pushcmd.ChunkOptions{Length: int64(*f.length), Body: f.wrong.body, Progress: env.Report(), Name: cli.InputLabel(args[0])}

	// In a file the session is saved behind each request: what the registry has by then
	// is not sent again after a failure.
	if *f.session != "" {
		o.Save = func(s *pushcmd.Session) error { return s.Save(*f.session) }
	}

	result, err := s.Chunk(ctx, c, src, o)

	// The usual hint is to ask where the session stands. That does not mend a body
	// which is too large or not allowed.
	if status, ok := errors.AsType[*registry.StatusError](err); ok && (status.TooLarge() || errors.Is(err, registry.ErrDenied)) {
		return err
	}
	if err != nil {
		return cli.WithHint(err, "`ocikit upload status` asks the registry how many bytes it holds, and brings the session there")
	}

	env.Detail("ocikit: sent %d bytes in %d requests, the session is at %d", result.Sent, result.Requests, s.Upload.Offset)
	if *f.session != "" && result.Requests > 0 {
		return nil // saved after each request
	}

	return f.save(env, s)
}

func uploadStatus() cli.Command {
	return cli.Command{
		Name: "upload status", Group: cli.GroupRegistry,
		Short: "ask the registry how many bytes of an upload it holds",
		Long: `Status sends GET to the session's location, and prints the number of bytes that the registry
says it holds. The session in the file is brought there. In a pipe, without --session, the session
that goes on is printed in place of the number.

` + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello --session up.json\nocikit upload status --session up.json",
		Status:  "4 if the registry does not know the session any more",
		Bind: func(fs *flag.FlagSet) cli.Action {
			u := bindUploadFlags(fs)
			return u.alone(func(ctx context.Context, env *cli.Env, args []string) error {
				s, c, err := u.open(env)
				if err != nil {
					return err
				}

				result, err := s.Status(ctx, c)
				if err != nil {
					return err
				}

				if result.Server < 0 {
					env.Notice("ocikit: the registry does not say how many bytes it holds; the session stays at %d", result.Offset)
				}

				if result.Ambiguous {
					env.Notice("ocikit: the registry says 0-0, which means one byte or none")
				}

				env.Detail("ocikit: the session was at %d, it is at %d", result.Before, result.Offset)

				// In a pipe standard output carries the session, and a number would break the next
				// step.
				if err := u.save(env, s); err != nil || *u.session == "" {
					return err
				}

				return show.WriteLines(env.Stdout, []string{fmt.Sprint(result.Offset)})
			})
		},
	}
}

func uploadFinish() cli.Command {
	return cli.Command{
		Name: "upload finish", Args: "[FILE]", Group: cli.GroupRegistry, Progress: true,
		Short: "close an upload under its digest",
		Long: `Finish sends PUT with the digest of the bytes that were sent, which the session knows, and
prints the descriptor of the blob. With FILE, which stands for the whole blob, the bytes from the
session's offset on go with the request. The session's file is removed.

--digest gives the digest; one that is known to be wrong is refused before anything is sent, unless
--force is given, too.

` + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello | ocikit upload chunk layer.tar.gz | ocikit upload finish",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(finishFlags)
			f.uploadFlags = bindUploadFlags(fs)
			f.want = fs.String("digest", "", "close the upload under `DIGEST`")
			f.force = fs.Bool("force", false, "send --digest even if it is wrong")
			f.wrong = bindWrongFlags(fs)
			return f.alone(f.run)
		},
	}
}

// finishFlags are the flags of upload finish.
type finishFlags struct {
	uploadFlags
	want  *string
	force *bool
	wrong *wrongFlags
}

// run closes the session, with the bytes of a file if one is named.
func (f *finishFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	o := pushcmd.FinishOptions{Force: *f.force, Body: f.wrong.body, Progress: env.Report()}
	var err error
	if *f.want != "" {
		if o.Digest, err = operands.ParseDigest("digest", *f.want); err != nil {
			return err
		}
	}

	if len(args) == 1 {
		if o.Rest, err = env.OpenFile(args[0], os.O_RDONLY, 0); err != nil {
			return err
		}
		defer o.Rest.Close()
	}

	s, c, err := f.open(env)
	if err != nil {
		return err
	}

	desc, err := s.Finish(ctx, c, o)
	if errors.Is(err, digest.ErrMismatch) && !*f.force {
		return cli.WithHint(err, "nothing was sent; --force sends it all the same")
	}
	if err != nil {
		return err
	}

	// The registry has closed the session, so its file is of no use any more.
	if err := f.remove(); err != nil {
		return err
	}

	return oci.WriteDescriptors(env.Stdout, desc)
}

func uploadCancel() cli.Command {
	return cli.Command{
		Name: "upload cancel", Group: cli.GroupRegistry,
		Short:   "abandon an upload",
		Long:    "Cancel sends DELETE to the session's location; the registry forgets the bytes. The session's file is removed.\n\n" + sessionHelp,
		Example: "ocikit upload start localhost:5000/hello | ocikit upload cancel",
		Bind: func(fs *flag.FlagSet) cli.Action {
			u := bindUploadFlags(fs)
			return u.alone(func(ctx context.Context, env *cli.Env, args []string) error {
				s, c, err := u.open(env)
				if err != nil {
					return err
				}
				if err := s.Cancel(ctx, c); err != nil {
					return err
				}
				return u.remove()
			})
		},
	}
}

func uploadMount() cli.Command {
	return cli.Command{
		Name: "upload mount", Args: "HOST/REPO DIGEST", Group: cli.GroupRegistry,
		Short: "ask the registry to take a blob over from another repository",
		Long: `Mount sends POST /v2/REPO/blobs/uploads/?mount=DIGEST&from=REPO and prints the descriptor of the
blob if the registry took it over. If not, the registry has opened an upload in its place: it is kept
in the file that --session names, or else cancelled.`,
		Example: "ocikit upload mount localhost:5000/copy \"$(ocikit digest layer.tar.gz)\" --from hello",
		Status:  "1 if the registry did not take the blob over",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := new(mountFlags)
			f.uploadFlags = bindUploadFlags(fs)
			f.from = fs.String("from-repo", "", "take the blob from the repository `REPO`; any that has it if none is named")
			cli.Alias(fs, "from-repo", "from")
			return f.alone(f.run)
		},
	}
}

// mountFlags are the flags of upload mount.
type mountFlags struct {
	uploadFlags
	from *string
}

// run asks for a mount, and keeps the session that a registry may open in its place.
func (f *mountFlags) run(ctx context.Context, env *cli.Env, args []string) error {
	d, err := digest.Parse(args[1])
	if err != nil || !d.Verifiable() {
		return cli.Usagef("%q: want a digest by sha256 or sha512", args[1])
	}

	c, ref, err := f.registry.Dial(env, registry.ParseRepository, args[0], false)
	if err != nil {
		return err
	}

	s, err := pushcmd.Mount(ctx, c, ref.Repo, d, *f.from)
	if err != nil {
		return err
	}

	if s == nil {
		return printMounted(ctx, env, c, ref.Repo, d)
	}

	// The registry has opened an upload instead (distribution-spec, "Mounting a blob
	// from another repository"). If no file keeps it, nobody could close it later, and
	// it is cancelled where the registry can do that.
	if *f.session != "" {
		err = s.Save(*f.session)
	} else {
		s.Cancel(ctx, c)
	}

	source := "another repository"
	if *f.from != "" {
		source = fmt.Sprintf("%q", *f.from)
	}

	refused := fmt.Errorf("blob %s: the registry did not take it over from %s", d, source)
	return errors.Join(cli.WithHint(refused, "it must be there, and you must be allowed to read it; `ocikit upload blob` sends it"), err)
}

// printMounted prints the descriptor of a blob that was mounted. The answer to a mount does not
// tell the size, so the registry is asked; a registry that does not say gives 0.
func printMounted(ctx context.Context, env *cli.Env, c *registry.Client, repo string, d digest.Digest) error {
	size, err := c.HeadBlob(ctx, repo, d)
	if err != nil {
		return fmt.Errorf("after the mount: %w", err)
	}
	return oci.WriteDescriptors(env.Stdout, oci.Descriptor{MediaType: oci.MediaTypeOctetStream, Digest: d, Size: max(size, 0)})
}

func uploadBlob() cli.Command {
	return cli.Command{
		Name: "upload blob", Args: "HOST/REPO FILE", Group: cli.GroupRegistry, Progress: true,
		Short: "send a whole blob: start, chunk, finish",
		Long: `Blob opens an upload, sends FILE in one PATCH, closes it under the digest of what was sent, and
prints the descriptor. It does not ask whether the blob is there, and it does not try again: it shows
what a registry makes of each request, with -v, --trace or --curl. "ocikit push" is the sturdy one.`,
		Example: "ocikit upload blob localhost:5000/hello layer.tar.gz -v",
		Bind: func(fs *flag.FlagSet) cli.Action {
			flags := commonflags.BindRegistry(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				c, ref, err := flags.Dial(env, registry.ParseRepository, args[0], args[1] == "-")
				if err != nil {
					return err
				}

				in, err := env.Input(args[1])
				if err != nil {
					return err
				}
				defer in.Close()

				// Chunk takes a regular file for the whole blob and sends it in one request, since
				// its size is known. It can see the file only without the wrapper.
				var src io.Reader = in
				if f, ok := in.(*cli.Named); ok {
					src = f.File
				}

				s, err := pushcmd.Start(ctx, c, ref.Repo, digest.SHA256)
				if err != nil {
					return err
				}

				if _, err := s.Chunk(ctx, c, src, pushcmd.ChunkOptions{Progress: env.Report(), Name: cli.InputLabel(args[1])}); err != nil {
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
