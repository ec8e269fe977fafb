package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"ocikit/oci/registry/serve"
)

func serveCommand() Command {
	return Command{
		Name: "serve", Args: "DIR", Group: groupRegistry, Progress: true,
		Short: "be a registry whose repositories are the layouts below a directory",
		Long: `Serve answers the registry protocol on a loopback address until it is interrupted. Repository
a/b is the layout DIR/a/b: what is pushed is at once a layout for every other command, and what a
layout holds can be pulled. DIR is created if need be. The page at / shows repositories, images, and
uploads while they happen.

The address is printed on standard output as soon as it answers, so a script may ask for a free port
with --listen 127.0.0.1:0. Each request is a line on standard error. Uploads that are cut, or
interrupted by the end of the server, go on where they stopped.

Anybody who reaches the address may read and write, unless --htpasswd or --token-file says who. A
line of the former is USER:$pbkdf2-sha256$ROUNDS$SALT$HASH, as --make-password prints it for the
password on standard input; a line of the latter is a token, which is sent as a bearer token or as
the password of any user. With --token-auth the API asks for a token that the registry's own token
server gives, at /token, to those users, or to everybody if there are none: so a client's way with
tokens can be tested with no other program. Off the loopback address TLS is wanted, or --plain-http.

--fault commits faults on purpose, for people who test clients; "--fault help" lists them.`,
		Example: "ocikit serve registry --listen 127.0.0.1:5000",
		Bind: func(fs *flag.FlagSet) Action {
			f := bindServeFlags(fs)
			return func(ctx context.Context, env *Env, args []string) error {
				switch {
				case f.fault == "help":
					return listFaults(env)
				case f.makePassword != "":
					return makePassword(env, f.makePassword)
				case len(args) != 1:
					return usagef("%d operands, want DIR", len(args))
				}
				return f.serve(ctx, env, args[0])
			}
		},
	}
}

// serveFlags are the flags of serve.
type serveFlags struct {
	o                        serve.Options
	listen, log              string
	tlsCert, tlsKey          string
	plainHTTP                bool
	passwords, tokens, fault string
	makePassword             string
	maxUpload                sizeFlag
}

func bindServeFlags(fs *flag.FlagSet) *serveFlags {
	f := new(serveFlags)
	fs.StringVar(&f.listen, "listen", "127.0.0.1:5000", "answer on `address`; port 0 is any free one")
	fs.BoolVar(&f.o.ReadOnly, "read-only", false, "refuse to change anything")
	fs.StringVar(&f.log, "log", "text", "log requests as `form`: text, json or none")
	fs.StringVar(&f.tlsCert, "tls-cert", "", "talk HTTPS with the certificate in `file`")
	fs.StringVar(&f.tlsKey, "tls-key", "", "key of the certificate, in `file`")
	fs.BoolVar(&f.plainHTTP, "plain-http", false, "talk HTTP on an address that others can reach")
	fs.StringVar(&f.passwords, "htpasswd", "", "let in who has a password by `file`, whose lines --make-password prints")
	fs.StringVar(&f.tokens, "token-file", "", "let in who has a token that stands in `file`")
	fs.BoolVar(&f.o.TokenAuth, "token-auth", false, "ask for a token of the registry's own token server, as large registries do")
	fs.StringVar(&f.makePassword, "make-password", "", "print the line for `user` with the password on standard input, and end")
	fs.StringVar(&f.fault, "fault", "", "commit `faults`, names joined by commas; \"help\" lists them")
	fs.BoolVar(&f.o.Sparse, "sparse", false, "take manifests that name blobs or manifests which are not there")
	fs.Var(&f.maxUpload, "max-upload", "refuse blobs over `size` bytes (0: none)")
	return f
}

func listFaults(env *Env) error {
	var lines []string
	for _, f := range serve.Faults() {
		lines = append(lines, fmt.Sprintf("%-24s %s", f.Name, f.Short))
	}
	return writeLines(env.Stdout, lines)
}

func makePassword(env *Env, user string) error {
	pass, err := readSecret(env.Stdin)
	if err != nil {
		return err
	}
	line, err := serve.PasswordLine(user, pass)
	if err != nil {
		return err
	}
	return writeLines(env.Stdout, []string{line})
}

func (f *serveFlags) serve(ctx context.Context, env *Env, dir string) error {
	o := f.o
	o.MaxUpload = int64(f.maxUpload)
	if err := setLog(&o, env, f.log); err != nil {
		return err
	}
	if f.fault != "" {
		o.Faults = strings.Split(f.fault, ",")
		for _, name := range o.Faults {
			if !slices.ContainsFunc(serve.Faults(), func(known serve.Fault) bool { return known.Name == name }) {
				return &usageError{msg: fmt.Sprintf("flag --fault: no fault is called %q", name), hint: "`ocikit serve --fault help` lists them"}
			}
		}
	}
	if (f.tlsCert == "") != (f.tlsKey == "") {
		return usagef("--tls-cert and --tls-key go together")
	}
	if f.tlsCert == "" && !f.plainHTTP {
		if err := checkLoopback(f.listen); err != nil {
			return err
		}
	}
	var err error
	if o.Auth, err = f.auth(env); err != nil {
		return err
	}
	o.Progress = env.progress.endless()
	var tlsConfig *tls.Config
	if f.tlsCert != "" {
		cert, err := tls.LoadX509KeyPair(f.tlsCert, f.tlsKey)
		if err != nil {
			return fmt.Errorf("certificate %q: %w", f.tlsCert, pathless(err))
		}
		tlsConfig = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
	}
	return serveDir(ctx, env, dir, f.listen, tlsConfig, o)
}

// auth reads the files that say who may come in; nil is everybody.
func (f *serveFlags) auth(env *Env) (*serve.Auth, error) {
	if f.passwords == "" && f.tokens == "" {
		return nil, nil
	}
	var readers [2]io.Reader
	for i, name := range []string{f.passwords, f.tokens} {
		if name == "" {
			continue
		}
		in, err := env.input(name)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		readers[i] = in
	}
	a, err := serve.NewAuth(readers[0], readers[1])
	if f.tokens == "" {
		err = withHint(err, "`ocikit serve --make-password USER` prints a line for a password file")
	}
	return a, err
}

func setLog(o *serve.Options, env *Env, form string) error {
	switch form {
	case "text":
		o.Log = func(a serve.Access) { env.notice("%s", a.String()) }
	case "json":
		o.Log = func(a serve.Access) { io.WriteString(env.Stderr, a.JSON()+"\n") }
	case "none":
	default:
		return usagef("flag --log: %q: want text, json or none", form)
	}
	return nil
}

// checkLoopback refuses addresses that others can reach: without TLS whoever listens can read
// what is sent.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("flag --listen: %q: want HOST:PORT", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return &usageError{
			msg:  fmt.Sprintf("flag --listen: %q is not a loopback address", address),
			hint: "give --tls-cert and --tls-key, or --plain-http if the network is to be trusted",
		}
	}
	return nil
}

func serveDir(ctx context.Context, env *Env, dir, listen string, tlsConfig *tls.Config, o serve.Options) error {
	if err := os.MkdirAll(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%q: %w", dir, pathless(err))
	}
	s, err := serve.New(dir, o)
	if err != nil {
		return err
	}
	defer s.Close()
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", listen, err)
	}
	if err := writeLines(env.Stdout, []string{ln.Addr().String()}); err != nil {
		return err
	}
	if f, ok := env.Stdout.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return err
		}
	}
	if tlsConfig != nil {
		ln = tls.NewListener(ln, tlsConfig)
	}
	if err := s.Serve(ctx, ln); err != nil {
		return err
	}
	return nil // told to stop, and stopped
}
