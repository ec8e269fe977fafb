package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"ocikit/oci/registry"
)

// registryFlags are the flags of every command that talks to a registry.
type registryFlags struct {
	o             registry.Options
	passwordStdin *bool
	trustRealm    *[]string
	trace         traceFlag
	curl          *bool
	closers       []io.Closer
}

func bindRegistryFlags(fs *flag.FlagSet) *registryFlags {
	r := new(registryFlags)
	fs.BoolVar(&r.o.PlainHTTP, "plain-http", false, "talk HTTP, not HTTPS (a loopback registry is tried with both)")
	fs.BoolVar(&r.o.Insecure, "insecure", false, "do not verify the registry's certificate")
	fs.StringVar(&r.o.CAFile, "ca-file", "", "trust the certificates in `file` too")
	fs.StringVar(&r.o.CertFile, "cert-file", "", "client certificate in `file`")
	fs.StringVar(&r.o.KeyFile, "key-file", "", "key of the client certificate in `file`")
	fs.StringVar(&r.o.Username, "username", "", "`name` to log in with")
	r.passwordStdin = fs.Bool("password-stdin", false, "read the password from standard input")
	fs.StringVar(&r.o.AuthFile, "authfile", "", "read credentials from `file` alone")
	r.trustRealm = list(fs, "trust-realm", "", "send the credentials to the token server `HOST` too (repeatable)")
	fs.BoolVar(&r.o.StrictLocation, "strict-location", false, "send no upload to another host than the registry's")
	fs.IntVar(&r.o.Retry, "retry", 3, "repeat a request up to `n` times where that is safe")
	fs.DurationVar(&r.o.Timeout, "timeout", 30*time.Second, "give up when no byte moves for `duration`")
	fs.Var(&r.trace, "trace", "write each request as a JSON line to `file`, or to standard error")
	r.curl = fs.Bool("curl", false, "print each request as a curl command on standard error, with $VARS for secrets, $BODY and $LOCATION")
	return r
}

// traceFlag is --trace or --trace=FILE.
type traceFlag struct {
	given bool
	file  string
}

func (t *traceFlag) String() string   { return t.file }
func (t *traceFlag) IsBoolFlag() bool { return true }
func (t *traceFlag) Set(s string) error {
	t.given = s != "false"
	if s != "true" && s != "false" {
		t.file = s
	}
	return nil
}

// options returns the settings for a client. The caller calls close when it is done.
// With --password-stdin standard input is the password, so it must not be wanted for data.
func (r *registryFlags) options(env *Env, stdinIsData bool) (registry.Options, error) {
	o := r.o
	o.TrustRealms = *r.trustRealm
	o.Getenv = env.Getenv
	o.Now = env.Now
	o.UserAgent = "ocikit"
	o.Home = env.Getenv("HOME")
	if o.Home == "" {
		o.Home = env.Getenv("USERPROFILE")
	}
	o.Notice = func(text string) { env.notice("ocikit: %s", text) }
	o.Detail = func(text string) { env.detail("ocikit: %s", text) }
	if o.Retry < 0 || o.Timeout <= 0 {
		return o, usagef("--retry and --timeout cannot be negative")
	}
	if o.Username != "" && !*r.passwordStdin {
		return o, usagef("--username goes with --password-stdin")
	}
	if *r.passwordStdin {
		if stdinIsData {
			return o, usagef("standard input is the data: give the password with --authfile")
		}
		if o.Username == "" {
			return o, usagef("--password-stdin goes with --username")
		}
		var err error
		if o.Password, err = readSecret(env.Stdin); err != nil {
			return o, err
		}
	}
	if *r.curl {
		o.Curl = env.Stderr
	}
	return o, r.openTrace(env, &o)
}

// readSecret reads the first line of standard input.
func readSecret(stdin io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(stdin, 64<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("standard input: no password")
	}
	return line, nil
}

func (r *registryFlags) openTrace(env *Env, o *registry.Options) error {
	var sinks []func(registry.Event)
	if env.Verbose {
		sinks = append(sinks, registry.TraceText(env.Stderr))
	}
	switch {
	case r.trace.given && r.trace.file == "":
		sinks = append(sinks, registry.TraceJSON(env.Stderr))
	case r.trace.given:
		f, err := os.OpenFile(r.trace.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return fmt.Errorf("%q: %w", r.trace.file, pathless(err))
		}
		r.closers = append(r.closers, f)
		sinks = append(sinks, registry.TraceJSON(f))
	}
	if len(sinks) > 0 {
		o.Trace = func(e registry.Event) {
			for _, sink := range sinks {
				sink(e)
			}
		}
	}
	return nil
}

// client returns a client for the registry of ref.
func (r *registryFlags) client(env *Env, ref registry.Reference, stdinIsData bool) (*registry.Client, error) {
	o, err := r.options(env, stdinIsData)
	if err != nil {
		return nil, err
	}
	return registry.New(ref, o)
}

// close ends the trace and joins its error to that of the command.
func (r *registryFlags) close(err *error) {
	for _, c := range r.closers {
		*err = errors.Join(*err, c.Close())
	}
}

// parseRef reads a reference from the command line.
func parseRef(parse func(string) (registry.Reference, error), s string) (registry.Reference, error) {
	ref, err := parse(s)
	if err != nil {
		return ref, usagef("%v", err)
	}
	return ref, nil
}

// isDenied and isRemoteNotFound classify the errors of the registry client.
func isDenied(err error) bool         { return errors.Is(err, registry.ErrDenied) }
func isRemoteNotFound(err error) bool { return errors.Is(err, registry.ErrNotFound) }
