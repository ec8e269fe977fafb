package tapcmd

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/fault"
	"ocikit/oci/registry/tap"
)

func tapCommand() cli.Command {
	return cli.Command{
		Name: "tap", Args: "REGISTRY", Group: cli.GroupRegistry,
		Short: "stand between a client and a registry, and say who is wrong",
		Long: `Tap answers the registry protocol on a loopback address and hands everything on to REGISTRY,
bytes untouched, until it is interrupted. Each exchange is a line on standard error when it has ended,
with a verdict by the distribution-spec: right, tolerated, broken by the client, broken by the
registry. The page at / shows the same, uploads grouped by session. Interrupted with Ctrl-C, it prints
a summary: its first line is the cause of what went wrong first, and what to do.

A client comes through the tap when it is told another name, the rest of the name stays:

    docker push localhost:5000/team/app:v1      (localhost needs no TLS)
    podman push --tls-verify=false localhost:5000/team/app:v1      (buildah alike)
    skopeo copy ... docker://localhost:5000/team/app --dest-tls-verify=false
    crane push image.tar localhost:5000/team/app
    oras push --plain-http localhost:5000/team/app file
    regctl registry set --tls disabled localhost:5000
    helm push chart.tgz oci://localhost:5000/charts --plain-http
    ctr images push --plain-http localhost:5000/team/app:v1

Where the name must stay, let it lead here: a mirror (docker: registry-mirrors in daemon.json, podman:
registries.conf, containerd: hosts.toml), or a line in /etc/hosts, with TLS by --make-ca DIR, whose
DIR/ca.crt the client must trust. A client logs in as usual, with the name of the tap in place of the
registry's; the tap has no credentials of its own and keeps none.

The digest of a body over 16 MiB is computed if there is a doubt: of a blob that a client asks for
again, and of all once a registry refused one. With --record or --har it always is.

--record writes each exchange to a file, without secrets; "ocikit explain" judges it again, "ocikit
replay" plays it. --fault spoils what passes, for people who test clients ("ocikit serve --fault help"
lists the faults).`,
		Example: "ocikit tap localhost:5000 --record recording --listen 127.0.0.1:5001",
		Status:  "1 if something was broken and stayed so",
		Bind: func(fs *flag.FlagSet) cli.Action {
			f := bindTapFlags(fs)
			return func(ctx context.Context, env *cli.Env, args []string) error {
				return f.run(ctx, env, args[0])
			}
		},
	}
}

// tapFlags are the flags of tap.
type tapFlags struct {
	registry        *commonflags.Registry
	listen          string
	log             *string
	record, har     string
	fault           commonflags.Faults
	faultAt         string
	tlsCert, tlsKey string
	makeCA          string
	hosts           *[]string
	curl, hideNames bool
}

func bindTapFlags(fs *flag.FlagSet) *tapFlags {
	f := &tapFlags{registry: commonflags.BindTransport(fs)}
	fs.StringVar(&f.listen, "listen", "127.0.0.1:5000", "answer at `ADDRESS`; port 0 takes any free one")
	f.log = cli.Choice(fs, "log", "text", "log requests as `FORM`", "text", "json", "none")
	fs.StringVar(&f.record, "record", "", "write each exchange as a JSON line to `FILE`, without secrets")
	fs.StringVar(&f.har, "har", "", "write an HTTP archive to `FILE`, which browsers' tools open")
	fs.BoolVar(&f.hideNames, "redact-names", false, "put others in the place of hosts, repositories and tags in what is recorded")
	fs.BoolVar(&f.curl, "curl", false, "print each request as a curl command on standard error, with $VARS for secrets, $BODY and $LOCATION")
	fs.Var(&f.fault, "fault", "misbehave in the ways of `FAULTS`, names joined by commas; \"help\" lists them")
	fs.StringVar(&f.faultAt, "fault-at", "", "spoil only the request of this `NUMBER`, or those with this in their path")
	fs.StringVar(&f.tlsCert, "tls-cert", "", "talk HTTPS with the certificate in `FILE`")
	fs.StringVar(&f.tlsKey, "tls-key", "", "read the key of the certificate from `FILE`")
	fs.StringVar(&f.makeCA, "make-ca", "", "talk HTTPS to clients with a certificate of the authority in `DIR`, which is made if need be")
	f.hosts = cli.List(fs, "host", "", "on a loopback address answer also to requests for the name `HOST` (repeatable)")
	return f
}

// run stands between clients and the registry until ctx ends, then prints the summary. The error is
// [cli.ErrNo] if something was broken and stayed so.
func (f *tapFlags) run(ctx context.Context, env *cli.Env, name string) (err error) {
	if f.fault == "help" {
		return commonflags.ListFaults(env)
	}

	ref, err := commonflags.ParseRef(registry.ParseHost, name)
	if err != nil {
		return err
	}

	o := tap.Options{Hosts: *f.hosts, Now: env.Now, Digests: f.record != "" || f.har != ""}
	if err := f.faults(&o); err != nil {
		return err
	}

	config, err := f.tls(env, ref)
	if err != nil {
		return err
	}

	c, err := f.registry.Client(env, ref, false)
	if err != nil {
		return err
	}
	defer c.Close()

	var distrusted bool
	if o.Registry, distrusted, err = f.find(ctx, c, ref); err != nil {
		return err
	}

	o.Transport = c.Transport()

	out, err := openSinks(env, f, o.Registry.String())
	if err != nil {
		return err
	}

	defer func() { err = errors.Join(err, out.close()) }()
	o.Seen = out.seen
	o.Failed = func(text string) { env.Notice("the page of the tap: %s", text) }
	t, err := tap.New(o)
	if err != nil {
		return err
	}

	if err := listen(ctx, env, f.listen, func(ctx context.Context, ln net.Listener) error { return t.Serve(ctx, ln, config) }); err != nil {
		return err
	}

	s := t.Summary()
	switch {
	case distrusted && s.Verdict.Rule == "tls":
		s.Verdict.Advice = "give --ca-file FILE, the authority that signed its certificate, or --insecure, which trusts any"
	case s.Verdict.Rule == "hello":
		s.Verdict.Advice += ": --make-ca DIR"
	}

	if err := show.WriteLines(env.Stdout, s.Lines()); err != nil {
		return err
	}

	if s.Verdict.Broken() && !s.Recovered {
		return cli.ErrNo
	}

	return nil
}

// find returns the address of the registry, and whether its certificate is not trusted.
func (f *tapFlags) find(ctx context.Context, c *registry.Client, ref registry.Reference) (u *url.URL, distrusted bool, err error) {
	// By the request the client finds out whether a loopback registry speaks TLS. The answer itself
	// does not matter.
	_, pingErr := c.Ping(ctx)
	if u, err = url.Parse(c.URL()); err != nil {
		return nil, false, err
	}

	var refused *registry.ConnError
	if !errors.As(pingErr, &refused) {
		return u, false, nil
	}

	// If nobody listens there yet, a guess is left: it will most likely speak HTTP. One whose
	// certificate is not trusted speaks HTTPS.
	distrusted = refused.BadCertificate()
	if _, guessed := ref.BaseURL(f.registry.Settings.PlainHTTP); guessed && !distrusted {
		u.Scheme = "http"
	}

	return u, distrusted, nil
}

// faults checks the flags about faults and puts them into o.
func (f *tapFlags) faults(o *tap.Options) error {
	if f.fault == "" {
		if f.faultAt != "" {
			return cli.Usagef("--fault-at goes with --fault")
		}
		return nil
	}

	o.Faults = strings.Split(string(f.fault), ",")
	for _, name := range o.Faults {
		if !slices.ContainsFunc(fault.All(), func(known fault.Fault) bool { return known.Name == name }) {
			return &cli.UsageError{Msg: fmt.Sprintf("flag --fault: no fault is called %q", name), Advice: "`ocikit serve --fault help` lists them"}
		}
		if fault.NeedsStore(name) {
			return cli.Usagef("flag --fault: %s: only serve can commit it, since it is about what a registry stores", name)
		}
	}

	switch n, err := strconv.Atoi(f.faultAt); {
	case err == nil && n > 0:
		o.FaultAt = n
	case err == nil:
		return cli.Usagef("flag --fault-at: %q: requests are counted from 1", f.faultAt)
	default: // a part of the path; "" is part of every one
		o.FaultPath = f.faultAt
	}

	return nil
}

// tls returns the configuration with which clients are talked to; nil means HTTP.
func (f *tapFlags) tls(env *cli.Env, ref registry.Reference) (*tls.Config, error) {
	var cert tls.Certificate
	var err error
	switch {
	case f.makeCA != "" && f.tlsCert != "":
		return nil, cli.Usagef("--make-ca and --tls-cert do not go together")
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return nil, cli.Usagef("--tls-cert and --tls-key go together")
	case f.tlsCert != "":
		if cert, err = env.KeyPair(f.tlsCert, f.tlsKey); err != nil {
			return nil, err
		}
	case f.makeCA != "":
		// The certificate is for every name by which a client may come here: loopback, the address,
		// the registry itself by way of /etc/hosts, and those of --host.
		names := []string{"localhost", "127.0.0.1", "::1"}
		for _, name := range append([]string{f.listen, ref.Host}, *f.hosts...) {
			if host, _, err := net.SplitHostPort(name); err == nil {
				name = host
			}
			if name != "" && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
		if cert, err = tap.Authority(f.makeCA, names, env.Now()); err != nil {
			return nil, oci.Pathless(err)
		}
	default:
		return nil, commonflags.CheckLoopback(f.listen, "give --tls-cert and --tls-key, or --make-ca")
	}

	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, nil
}

// listen calls serve with a listener at the address. It prints the address before, flushed, so that
// a script which asked for port 0 can go on.
func listen(ctx context.Context, env *cli.Env, address string, serve func(context.Context, net.Listener) error) error {
	ln, err := commonflags.Listen(address)
	if err != nil {
		return err
	}
	if err := show.WriteLines(env.Stdout, []string{ln.Addr().String()}); err != nil {
		return err
	}
	if w, ok := env.Stdout.(interface{ Flush() error }); ok {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return serve(ctx, ln)
}
