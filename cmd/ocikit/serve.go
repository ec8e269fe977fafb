package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"

	"ocikit/oci/registry/serve"
)

func serveCommand() Command {
	return Command{
		Name: "serve", Args: "DIR", Group: groupRegistry, Files: "dirs",
		Short: "be a registry whose repositories are the layouts below a directory",
		Long: `Serve answers the registry protocol on a loopback address until it is interrupted. Repository
a/b is the layout DIR/a/b: what is pushed is at once a layout for every other command, and what a
layout holds can be pulled. DIR is created if need be.

The address is printed on standard output as soon as it answers, so a script may ask for a free port
with --listen 127.0.0.1:0. Each request is a line on standard error. Anybody who reaches the address
may read and write.`,
		Example: "ocikit serve registry --listen 127.0.0.1:5000",
		Bind: func(fs *flag.FlagSet) Action {
			listen := fs.String("listen", "127.0.0.1:5000", "answer on `address`; port 0 is any free one")
			readOnly := fs.Bool("read-only", false, "refuse to change anything")
			logForm := fs.String("log", "text", "log requests as `form`: text, json or none")
			maxUpload := new(sizeFlag)
			fs.Var(maxUpload, "max-upload", "refuse blobs over `size` bytes (0: none)")
			return func(ctx context.Context, env *Env, args []string) error {
				if len(args) != 1 {
					return usagef("%d operands, want DIR", len(args))
				}
				o := serve.Options{ReadOnly: *readOnly, MaxUpload: int64(*maxUpload)}
				if err := setLog(&o, env, *logForm); err != nil {
					return err
				}
				if err := checkLoopback(*listen); err != nil {
					return err
				}
				return serveDir(ctx, env, args[0], *listen, o)
			}
		},
	}
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

// checkLoopback refuses addresses that others can reach: there are no accounts.
func checkLoopback(address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return usagef("flag --listen: %q: want HOST:PORT", address)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("flag --listen: %q is not a loopback address, and anybody may write", address)
	}
	return nil
}

func serveDir(ctx context.Context, env *Env, dir, listen string, o serve.Options) error {
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
	return s.Serve(ctx, ln)
}
