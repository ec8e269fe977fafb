package registrycmd

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/archive"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/access"
	"ocikit/oci/registry/serve/exchange"
)

func serveCommand() cli.Command {
	return cli.Command{
		Name: "serve", Args: "DIR|ARCHIVE", Group: cli.GroupRegistry, Progress: true, AnyOperands: true,
		Short: "be a registry whose repositories are the layouts and archives below a directory",
		Long: `Serve answers the registry protocol on a loopback address until it is interrupted. Repository
a/b is the layout DIR/a/b: what is pushed is at once a layout for every other command, and what a
layout holds can be pulled. The archive DIR/a/b.tar is the repository a/b as well, read in place and
read-only; so is a directory DIR/a/b of its parts. DIR is created if need be. The page at / shows repositories, images, and
uploads while they happen.

An ARCHIVE in place of DIR is served alone, read-only: as a repository that is called like the file,
without .tar, and under the path of each full name in it. What is not compressed is read in place.

The address is printed on standard output as soon as it answers, so a script may ask for a free port
with --listen 127.0.0.1:0. Each request is a line on standard error. Uploads that are cut, or
interrupted by the end of the server, go on where they stopped.

A blob that a manifest of its repository names is not deleted, as the manifest would be damaged: delete
that first.

Anybody who reaches the address may read and write, unless --htpasswd or --token-file says who. A
line of the former is USER:$pbkdf2-sha256$ROUNDS$SALT$HASH, as --make-password prints it for the
password on standard input; a line of the latter is a token, which is sent as a bearer token or as
the password of any user. With --token-auth the API asks for a token that the registry's own token
server gives, at /token, to those users, or to everybody if there are none: so a client's way with
tokens can be tested with no other program. Any other address than a loopback one needs TLS, or --plain-http.

On a loopback address serve answers only to names that this machine alone can have, as localhost:
a page in a browser could lead a name of its own here. Behind a proxy that hands its own name on,
say which with --host.

    ocikit serve cache --upstream docker.io --listen 127.0.0.1:5001

With --upstream, as in this line, the registry keeps copies of another one's repositories: what DIR
lacks is fetched when somebody asks for it, checked, kept and handed on, each blob once. Repository
a/b of REGISTRY is the layout DIR/a/b. Clients take it as a mirror (docker: registry-mirrors in
daemon.json, podman: registries.conf, containerd: hosts.toml), or by its own name. What a tag means
is asked for each time; if the upstream does not answer within five seconds, the log says "stale" and
what is here is served. A copy is changed by nobody but the upstream: a push is refused. A repository
that DIR held before, and that came from elsewhere, is local: it is served as it is and takes pushes
("ocikit init DIR/team/app" makes one). Only what was asked for is in a copy; "ocikit verify" names
the rest.

Several upstreams are told apart by the parameter ns, which containerd sends. With NS=REGISTRY, or if
--upstream is repeated, what clients call NS comes from REGISTRY, and a/b of it is DIR/NS/a/b and the
repository NS/a/b, with _ for a colon in NS. With --upstream '*' any registry is one that a client
names: then let nobody in who may not reach what this machine can. Write http://REGISTRY for one that
talks HTTP. With --offline nothing is asked for: what is here is served.

With --fault the registry misbehaves on purpose, for people who test clients; "--fault help" lists them.`,
		Example: "ocikit serve registry --listen 127.0.0.1:5000",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := bindServeFlags(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				// The first two take no operand, hence AnyOperands above.
				switch {
				case f.fault == "help":
					return commonflags.ListFaults(env)
				case f.makePassword != "":
					return makePassword(env, f.makePassword)
				case len(args) != 1:
					return cli.Usagef("%s, want DIR or ARCHIVE", show.Count(len(args), "operand"))
				}
				return f.serve(ctx, env, args[0])
			}
		},
	}
}

// serveFlags are the flags of serve.
type serveFlags struct {
	o                 serve.Options
	registry          *commonflags.Registry // how the upstreams are reached
	upstreams         *[]string
	offline           bool
	listen            string
	log               *string
	tlsCert, tlsKey   string
	plainHTTP         bool
	passwords, tokens string
	stdin             []byte // what passwords or tokens are, if they came from standard input
	fault             commonflags.Faults
	makePassword      string
	maxUpload         cli.Size
	hosts             *[]string
	certificate       atomic.Pointer[tls.Certificate]
	dialing           sync.Mutex // held while a client is made, as requests and a reload do
}

func bindServeFlags(fs *flag.FlagSet) *serveFlags {
	f := &serveFlags{registry: commonflags.BindUpstream(fs)}
	f.upstreams = cli.List(fs, "upstream", "", "fetch what DIR lacks from `REGISTRY`, or NS=REGISTRY, or '*' for any (repeatable)")
	fs.BoolVar(&f.offline, "offline", false, "with --upstream, ask nobody: serve what is there")
	fs.StringVar(&f.listen, "listen", "127.0.0.1:5000", "answer at `ADDRESS`; port 0 takes any free one")
	fs.BoolVar(&f.o.ReadOnly, "read-only", false, "refuse to change anything")
	f.log = cli.Choice(fs, "log", "text", "log requests as `FORM`", "text", "json", "none")
	fs.StringVar(&f.tlsCert, "tls-cert", "", "talk HTTPS with the certificate in `FILE`")
	fs.StringVar(&f.tlsKey, "tls-key", "", "read the key of the certificate from `FILE`")
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "talk HTTP on an address that others can reach")
	fs.StringVar(&f.passwords, "htpasswd", "", "admit users whose password line is in `FILE`; --make-password prints such lines")
	fs.StringVar(&f.tokens, "token-file", "", "admit holders of a token in `FILE`")
	fs.BoolVar(&f.o.TokenAuth, "token-auth", false, "ask for a token of the registry's own token server, as large registries do")
	fs.StringVar(&f.makePassword, "make-password", "", "print the password line of `USER`, with the password on standard input, and end")
	fs.Var(&f.fault, "fault", "misbehave in the ways of `FAULTS`, names joined by commas; \"help\" lists them")
	fs.BoolVar(&f.o.Sparse, "sparse", false, "take manifests that name blobs or manifests which are not there")
	f.hosts = cli.List(fs, "host", "", "on a loopback address answer also to requests for the name `HOST` (repeatable)")
	fs.Var(&f.maxUpload, "max-upload", "refuse blobs over `SIZE` bytes (0: none)")
	return f
}

// makePassword prints the line of a password file for a user. The password is read from standard
// input.
func makePassword(env *cli.Env, user string) error {
	pass, err := commonflags.ReadSecret(env.Stdin)
	if err != nil {
		return err
	}
	line, err := access.PasswordLine(user, pass)
	if err != nil {
		return err
	}
	return show.WriteLines(env.Stdout, []string{line})
}

// serve checks the flags, reads the files that they name, and serves dir until ctx ends.
func (f *serveFlags) serve(ctx context.Context, env *cli.Env, dir string) error {
	o := f.o
	o.MaxUpload, o.Hosts = int64(f.maxUpload), *f.hosts
	if err := setLog(&o, env, *f.log); err != nil {
		return err
	}

	var err error
	if o.Faults, err = f.fault.Names(); err != nil {
		return err
	}

	if (f.tlsCert == "") != (f.tlsKey == "") {
		return cli.Usagef("--tls-cert and --tls-key go together")
	}

	if f.passwords == "-" && f.tokens == "-" {
		return cli.Usagef("standard input cannot hold both passwords and tokens: name a file")
	}

	// Without TLS passwords and tokens can be read on the way, so HTTP beyond this machine has to
	// be asked for.
	if f.tlsCert == "" && !f.plainHTTP {
		if err := commonflags.CheckLoopback(f.listen, "give --tls-cert and --tls-key, or --plain-http if the network is to be trusted"); err != nil {
			return err
		}
	}

	if o.Auth, err = f.auth(env); err != nil {
		return err
	}

	o.Progress = env.Endless()

	var tlsConfig *tls.Config
	if f.tlsCert != "" {
		if err := f.loadCertificate(env); err != nil {
			return err
		}
		tlsConfig = &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}

		// The certificate is looked up for each connection, so that a reload takes effect.
		tlsConfig.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.certificate.Load(), nil }
	}

	return f.serveDir(ctx, env, dir, tlsConfig, o)
}

// loadCertificate reads the certificate that connections from now on are shown.
func (f *serveFlags) loadCertificate(env *cli.Env) error {
	cert, err := env.KeyPair(f.tlsCert, f.tlsKey)
	if err != nil {
		return err
	}
	f.certificate.Store(&cert)
	return nil
}

// reload reads the files of certificate, passwords, tokens and credentials for upstreams again, as
// SIGHUP asks for. A file that cannot be read leaves things as they were, with a notice. What
// came from standard input stays.
func (f *serveFlags) reload(env *cli.Env, s *serve.Server) {
	if f.tlsCert != "" && f.tlsCert != "-" && f.tlsKey != "-" {
		if err := f.loadCertificate(env); err != nil {
			env.Notice("ocikit serve: %v; the certificate stays as it was", err)
		}
	}

	if auth, err := f.auth(env); err != nil {
		env.Notice("ocikit serve: %v; who may come in stays as it was", err)
	} else {
		s.SetAuth(auth)
	}

	if upstreams, err := f.upstream(env); err != nil {
		env.Notice("ocikit serve: %v; the upstreams stay as they were", err)
	} else {
		s.SetUpstreams(upstreams)
	}
}

// auth reads the files that say who may come in; nil is everybody.
func (f *serveFlags) auth(env *cli.Env) (*access.Auth, error) {
	if f.passwords == "" && f.tokens == "" {
		return nil, nil
	}

	var readers [2]io.Reader
	for i, name := range []string{f.passwords, f.tokens} {
		if name == "" {
			continue
		}

		// Standard input can be read once, and is kept for a reload.
		if name == "-" {
			if f.stdin == nil {
				data, err := env.Small(name)
				if err != nil {
					return nil, err
				}
				f.stdin = data
			}
			readers[i] = bytes.NewReader(f.stdin)
			continue
		}

		in, err := env.Input(name)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		readers[i] = in
	}

	a, err := access.NewAuth(readers[0], readers[1])
	if f.tokens == "" {
		err = cli.WithHint(err, "`ocikit serve --make-password USER` prints a line for a password file")
	}

	return a, err
}

// setLog sets what happens to the line of each request.
func setLog(o *serve.Options, env *cli.Env, form string) error {
	switch form {
	case "text":
		o.Log = func(a exchange.Access) { env.Notice("%s", a.String()) }
	case "json":
		o.Log = func(a exchange.Access) { io.WriteString(env.Stderr, a.JSON()+"\n") }
	case "none":
	default:
		return cli.Usagef("flag --log: %q: want text, json or none", form)
	}
	return nil
}

// serveDir serves a directory, which is made if need be, or an archive, until ctx ends.
func (f *serveFlags) serveDir(ctx context.Context, env *cli.Env, dir string, tlsConfig *tls.Config, o serve.Options) error {
	var err error
	if o.Upstreams, err = f.upstream(env); err != nil {
		return err
	}

	if is, err := archive.IsArchive(dir); err == nil && is {
		if o.Upstreams != nil {
			return cli.Usagef("flag --upstream: an archive holds no copies, want DIR")
		}
		a, err := archive.Open(ctx, dir, archive.OpenOptions{TempDir: env.Getenv("TMPDIR"), Notice: env.Tell})
		if err != nil {
			return err
		}
		defer a.Close()
		o.Archive, o.Repository = a, archiveRepository(dir)
	} else if operands.CheckNewDir(dir) != nil { // an archive was meant, and no directory is made under its name
		_, err := os.Stat(dir)
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	} else if err := os.MkdirAll(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q: %w", dir, oci.Pathless(err))
	}

	s, err := serve.New(dir, o)
	if err != nil {
		return err
	}
	defer s.Close()

	// Deferred behind Close, the stop function runs before it: no reload meets a closed server.
	if env.OnHangup != nil {
		defer env.OnHangup(func() { f.reload(env, s) })()
	}

	ln, err := commonflags.Listen(env, f.listen)
	if err != nil {
		return err
	}

	if tlsConfig != nil {
		ln = tls.NewListener(ln, tlsConfig)
	}

	if err := s.Serve(ctx, ln); err != nil {
		return err
	}

	return nil // told to stop, and stopped
}

// archiveRepository returns the name of the repository that an archive is served as: that of its
// file, without the endings, in lower case as the distribution-spec wants it.
func archiveRepository(file string) string {
	name := strings.ToLower(filepath.Base(filepath.Clean(file)))
	name = strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, ".gz"), ".zst"), ".tgz")
	return strings.TrimSuffix(name, ".tar")
}
