package tapcmd

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/fault"
	"ocikit/oci/registry/tap"
	"ocikit/oci/registry/tap/judge"
)

func tapCommand() cli.Command {
	return cli.Command{
		Name: "tap", Args: "REGISTRY", Group: cli.GroupRegistry,
		Short: "stand between a client and a registry, and say who is wrong",
		Long: `Tap answers the registry protocol on a loopback address and hands everything on to REGISTRY,
bytes untouched, until it is interrupted with Ctrl-C. It prints its address first and a summary last,
and the page at that address shows the same as it happens.

A client comes through the tap when it is told another name, the rest of the name stays:

    docker push localhost:5000/team/app:v1      (localhost needs no TLS)
    podman push --tls-verify=false localhost:5000/team/app:v1      (buildah alike)
    skopeo copy ... docker://localhost:5000/team/app --dest-tls-verify=false
    crane push image.tar localhost:5000/team/app
    oras push --plain-http localhost:5000/team/app file
    regctl registry set --tls disabled localhost:5000
    helm push chart.tgz oci://localhost:5000/charts --plain-http
    ctr images push --plain-http localhost:5000/team/app:v1

Where the name must stay, the client is told to find it here. A mirror is asked for pulls only, and a
client that gets no answer from it goes on to the registry itself, past the tap:

    docker (images of Docker Hub, in daemon.json)
        "registry-mirrors": ["http://localhost:5000"]
    podman, skopeo, buildah (in registries.conf)
        [[registry]]
        location = "r.example.com"
        [[registry.mirror]]
        location = "localhost:5000"
        insecure = true
    containerd (certs.d/r.example.com/hosts.toml; also for pushes)
        [host."http://localhost:5000"]
        capabilities = ["pull", "resolve", "push"]

Any client finds the tap by a line in /etc/hosts, 127.0.0.1 r.example.com. Then the tap must listen at
the port of the registry, talk TLS by --make-ca DIR, whose DIR/ca.crt the client must trust, and find
the registry itself by --resolve r.example.com:443:ADDRESS.

A client logs in as usual, by the name that it uses; the tap has no credentials of its own and keeps
none.

Each exchange is a line on standard error when it has ended:

    7 PATCH /v2/app/blobs/uploads/x end-5 202 90 0 2/3ms session=x offset=0-90

That is its number, method and path, the endpoint as the distribution-spec numbers it (- for none), the
status (or no-answer), the bytes of the request's body and of the answer's, milliseconds until the
answer began and until all was over. Where they apply there follow the upload (session=), the place of
the body in it and how much of it the registry says it holds (offset=), the fault that the tap
committed (fault=), and who broke the connection (cut-by=: client, registry, tap by a fault of its own,
or end, since the tap was ended). What is not right has its verdict in the next line: tolerated, broken
by the client, broken by the registry, or unfinished, and in brackets the place in the specification.

The summary begins with what matters most:

    all right: ...             nothing was broken, in what could be judged
    all right so far: ...      nor in what had not ended when the tap did
    all right in the end, ...  something was, and went well when repeated
    nothing was broken, ...    but something was odd, or missing
    cause: the client: ...     this went wrong first and stayed so, by the client,
    cause: the registry: ...   or by the registry or what stands before it
    cause: ...                 nobody is wrong: a name is not there, a login is missing, a fault was asked for
    nothing came: ...          no client has found the tap

Behind "to do:" is what helps, and in round brackets the request that shows the cause. The second line
counts requests, bytes and uploads; a third names the rules that were broken, and how often each was.

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

	own *net.TCPAddr // at which the tap answers; nil: not yet
}

func bindTapFlags(fs *flag.FlagSet) *tapFlags {
	f := &tapFlags{registry: commonflags.BindTransport(fs)}

	// The tap is to break nothing that would go well without it, so it waits longer than clients and
	// registries do.
	commonflags.SetDefault(fs, "timeout", "10m")
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
func (f *tapFlags) run(ctx context.Context, env *cli.Env, name string) error {
	if f.fault == "help" {
		return commonflags.ListFaults(env)
	}

	ref, err := commonflags.ParseRef(registry.ParseHost, name)
	if err != nil {
		return err
	}

	o, err := f.options(env)
	if err != nil {
		return err
	}

	config, err := f.tls(env, ref)
	if err != nil {
		return err
	}

	f.registry.Settings.Dialed = f.dialed
	c, err := f.registry.Client(env, ref, false)
	if err != nil {
		return err
	}
	defer c.Close()

	o.Transport = c.Transport()
	var distrusted bool
	if o.Registry, distrusted, err = f.find(ctx, c, ref); err != nil {
		return err
	}

	s, err := f.watch(ctx, env, o, config)
	if err != nil {
		return err
	}

	return conclude(env, s, distrusted)
}

// options returns what the flags say about the tap itself.
func (f *tapFlags) options(env *cli.Env) (tap.Options, error) {
	o := tap.Options{
		Hosts: *f.hosts, Now: env.Now, Digests: f.record != "" || f.har != "", Idle: f.registry.Settings.Timeout,
		Failed: func(text string) { env.Notice("the page of the tap: %s", text) },
	}
	return o, f.faults(&o)
}

// watch runs the tap until ctx ends, and hands what it sees to the files and the log that the flags
// name.
func (f *tapFlags) watch(ctx context.Context, env *cli.Env, o tap.Options, config *tls.Config) (s judge.Summary, err error) {
	out, err := openSinks(env, f, o.Registry.String())
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, out.close()) }()

	o.Seen = out.seen
	t, err := tap.New(o)
	if err != nil {
		return s, err
	}

	ln, err := commonflags.Listen(env, f.listen)
	if err == nil {
		f.own, _ = ln.Addr().(*net.TCPAddr)
		err = t.Serve(ctx, ln, config)
	}
	return t.Summary(), err
}

// dialed refuses a connection to the tap itself, to which the registry's name may lead just as it does
// for clients: each request would come back as another one, without an end.
func (f *tapFlags) dialed(c net.Conn) (net.Conn, error) {
	to, _ := c.RemoteAddr().(*net.TCPAddr)
	from, _ := c.LocalAddr().(*net.TCPAddr)
	if f.own == nil || to == nil || from == nil || to.Port != f.own.Port {
		return tap.Dialed(c), nil
	}

	// Who listens at all addresses is found at each of this machine's, which a connection to
	// it also comes from.
	if to.IP.Equal(f.own.IP) || f.own.IP.IsUnspecified() && to.IP.Equal(from.IP) {
		c.Close()
		return nil, errors.New(judge.ToItself)
	}

	return tap.Dialed(c), nil
}

// conclude prints the summary. What only the command knows is added to the advice in it: the flags that
// would have helped.
func conclude(env *cli.Env, s judge.Summary, distrusted bool) error {
	switch {
	case distrusted && s.Verdict.Rule == "tls":
		s.Verdict.Advice = "give --ca-file FILE, the authority that signed its certificate, or --insecure, which trusts any"
	case s.Verdict.Rule == "hello":
		s.Verdict.Advice += ": --make-ca DIR"
	}

	return cli.NoIf(show.WriteLines(env.Stdout, s.Lines()), s.Verdict.Broken() && !s.Recovered)
}

// findTime is how long a registry is waited for before the tap begins without knowing it.
const findTime = 15 * time.Second

// find returns the address of the registry, and whether its certificate is not trusted.
func (f *tapFlags) find(ctx context.Context, c *registry.Client, ref registry.Reference) (u *url.URL, distrusted bool, err error) {
	// By the request the client finds out whether a loopback registry speaks TLS. The answer itself
	// does not matter, so one that does not come is not waited for as long as --timeout says.
	soon, cancel := context.WithTimeout(ctx, findTime)
	defer cancel()
	_, pingErr := c.Ping(soon)
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

	var err error
	if o.Faults, err = f.fault.Names(); err != nil {
		return err
	}
	for _, name := range o.Faults {
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
	switch {
	case f.makeCA != "" && f.tlsCert != "":
		return nil, cli.Usagef("--make-ca and --tls-cert do not go together")
	case (f.tlsCert == "") != (f.tlsKey == ""):
		return nil, cli.Usagef("--tls-cert and --tls-key go together")
	case f.makeCA == "" && f.tlsCert == "":
		return nil, commonflags.CheckLoopback(f.listen, "give --tls-cert and --tls-key, or --make-ca")
	}

	cert, err := f.certificate(env, ref)
	if err != nil {
		return nil, err
	}

	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, nil
}

// certificate returns the certificate in the files that the flags name, else one of the authority.
func (f *tapFlags) certificate(env *cli.Env, ref registry.Reference) (tls.Certificate, error) {
	if f.tlsCert != "" {
		return env.KeyPair(f.tlsCert, f.tlsKey)
	}

	cert, err := tap.Authority(f.makeCA, f.names(ref), env.Now())
	return cert, oci.Pathless(err)
}

// names returns the names by which a client may come here: loopback, the address, the registry itself by
// way of /etc/hosts, and those of --host.
func (f *tapFlags) names(ref registry.Reference) []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, name := range slices.Concat([]string{f.listen, ref.Host}, *f.hosts) {
		if host, _, err := net.SplitHostPort(name); err == nil {
			name = host
		}
		if name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
