package commonflags

import (
	"bufio"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci/registry"
)

// Registry are the flags of every command that talks to a registry. Settings are as the flags left
// them; [Registry.Client] makes clients of them.
type Registry struct {
	Settings      registry.Options
	passwordStdin *bool
	token         string
	tokenStdin    *bool
	trustRealm    *[]string
	header        *[]string
	resolve       *[]string
	trace         traceFlag
	curl          *bool

	read *registry.Options // what the flags say, once it was asked for: standard input is read once
	host string            // of the first client
}

// BindTransport declares the flags of commands that reach a registry for somebody else: those
// about the way, none about who asks.
func BindTransport(fs *flag.FlagSet) *Registry {
	r := bindWay(fs)
	fs.BoolVar(&r.Settings.PlainHTTP, "plain-http", false, "talk HTTP, not HTTPS (a loopback registry is tried with both)")
	return r
}

// bindWay declares the flags about the way to a registry but --plain-http.
func bindWay(fs *flag.FlagSet) *Registry {
	r := &Registry{
		passwordStdin: new(bool), tokenStdin: new(bool), trustRealm: new([]string), curl: new(bool), header: new([]string),
	}
	r.Settings.Helpers = new(registry.Helpers)
	fs.BoolVar(&r.Settings.Insecure, "insecure", false, "do not verify the certificate of the registry's host")
	fs.StringVar(&r.Settings.CAFile, "ca-file", "", "trust the certificates in `FILE` too, wherever the registry leads")
	fs.StringVar(&r.Settings.CertFile, "cert-file", "", "show the client certificate in `FILE`")
	fs.StringVar(&r.Settings.KeyFile, "key-file", "", "read the key of the client certificate from `FILE`")
	r.resolve = cli.List(fs, "resolve", "", "connect to `HOST:PORT:ADDRESS` in place of what HOST means (repeatable)")
	fs.DurationVar(&r.Settings.Timeout, "timeout", 30*time.Second, "give up when no byte moves for `DURATION`")
	return r
}

// BindRegistry declares the flags of commands that talk to a registry themselves.
func BindRegistry(fs *flag.FlagSet) *Registry {
	r := BindTransport(fs)
	r.bindClient(fs)
	return r
}

// BindUpstream is [BindRegistry] for a command that is a registry as well, for which --plain-http
// says something of itself. Whether the other one talks HTTP is said by "http://" before its name.
func BindUpstream(fs *flag.FlagSet) *Registry {
	r := bindWay(fs)
	r.bindClient(fs)
	return r
}

// OneRegistry reports whether a flag was given that is meant for one registry alone: its credentials
// would reach others.
func (r *Registry) OneRegistry() bool {
	return r.Settings.Username != "" || r.token != "" || *r.tokenStdin || len(*r.header) > 0
}

// bindClient declares the flags about who asks, and how.
func (r *Registry) bindClient(fs *flag.FlagSet) {
	fs.StringVar(&r.Settings.Username, "username", "", "log in as `NAME`")
	r.passwordStdin = fs.Bool("password-stdin", false, "read the password from standard input")
	fs.StringVar(&r.Settings.AuthFile, "authfile", "", "read credentials from `FILE` alone")
	fs.StringVar(&r.token, "token", "", "send `TOKEN`, as \"registry token\" prints it; other users can see it")
	r.tokenStdin = fs.Bool("token-stdin", false, "read the token from standard input")
	r.trustRealm = cli.List(fs, "trust-realm", "", "send the credentials to the token server `HOST` too (repeatable)")
	fs.BoolVar(&r.Settings.StrictLocation, "strict-location", false, "send no upload to another host than the registry's")
	r.header = cli.List(fs, "header", "", "send the header `KEY:VALUE` to the registry, not where it leads (repeatable)")
	fs.StringVar(&r.Settings.UserAgent, "user-agent", "ocikit", "call itself `TEXT`")
	fs.IntVar(&r.Settings.Retry, "retry", 3, "repeat a request up to `N` times where that is safe")
	fs.Var(&r.trace, "trace", "write each request as a JSON line to `FILE`, or to standard error")
	r.curl = fs.Bool("curl", false, "print each request as a curl command on standard error, with $VARS for secrets, $BODY and $LOCATION")
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

// options returns the settings for a client. With --password-stdin or --token-stdin standard input
// is the secret, so it must not be wanted for data.
func (r *Registry) options(env *cli.Env, stdinIsData bool) (registry.Options, error) {
	o := r.Settings

	// Package registry reads no environment by itself, so that commands can run beside each other.
	o.TrustRealms = slices.Concat(*r.trustRealm, strings.FieldsFunc(env.Getenv("OCIKIT_TRUST_REALM"), func(c rune) bool { return c == ',' || c == ' ' }))
	o.Getenv, o.ReadFile = env.Getenv, env.Small
	o.Now = env.Now
	o.Home = cmp.Or(env.Getenv("HOME"), env.Getenv("USERPROFILE"))

	o.Notice = env.Tell
	o.Detail = func(text string) { env.Detail("ocikit: %s", text) }
	if o.Retry < 0 {
		return o, cli.Usagef("flag --retry: it cannot be negative")
	}
	if o.Timeout <= 0 {
		return o, cli.Usagef("flag --timeout: want more than 0s")
	}

	if err := r.wire(&o); err != nil {
		return o, err
	}

	if err := r.credentials(&o, env, stdinIsData); err != nil {
		return o, err
	}

	if *r.curl {
		o.Curl = env.Stderr
	}

	return o, r.openTrace(env, &o)
}

// wire reads the flags that change what is sent, and where.
func (r *Registry) wire(o *registry.Options) error {
	for _, line := range *r.header {
		key, value, ok := strings.Cut(line, ":")
		if err := checkHeader(key); !ok || err != nil {
			return cli.Usagef("flag --header: want KEY:VALUE, and no key that the protocol sets itself")
		}
		if o.Header == nil {
			o.Header = http.Header{}
		}
		o.Header.Add(key, strings.TrimSpace(value))
	}

	for _, entry := range *r.resolve {
		from, to, ok := parseResolve(entry)
		if !ok {
			return cli.Usagef("flag --resolve: %q: want HOST:PORT:ADDRESS, with an IPv6 HOST in brackets", entry)
		}
		if o.Resolve == nil {
			o.Resolve = map[string]string{}
		}
		o.Resolve[from] = to
	}

	return nil
}

// parseResolve reads HOST:PORT:ADDRESS as curl does. An IPv6 HOST stands in brackets, an IPv6
// ADDRESS may. It returns HOST:PORT and ADDRESS:PORT as package net writes them.
func parseResolve(entry string) (from, to string, ok bool) {
	host, rest, _ := strings.Cut(entry, ":")
	if inside, behind, isIPv6 := strings.Cut(strings.TrimPrefix(entry, "["), "]:"); isIPv6 && entry[0] == '[' {
		if ip, err := netip.ParseAddr(inside); err != nil || !ip.Is6() {
			return "", "", false
		}
		host, rest = inside, behind
	}

	port, address, _ := strings.Cut(rest, ":")
	if inside, bracketed := strings.CutPrefix(address, "["); bracketed {
		address, bracketed = strings.CutSuffix(inside, "]")
		if !bracketed {
			return "", "", false
		}
	}

	ip, err := netip.ParseAddr(address)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || portErr != nil || n == 0 || host == "" {
		return "", "", false
	}

	return strings.ToLower(net.JoinHostPort(host, port)), net.JoinHostPort(ip.String(), port), true
}

// checkHeader refuses what would make another request of the one that is meant.
func checkHeader(key string) error {
	word := strings.ToLower(key)
	if word == "" || strings.Trim(word, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		return errors.New("no name of a header")
	}
	switch word {
	case "host", "content-length", "transfer-encoding", "connection", "content-range", "range", "expect", "accept-encoding", "upgrade":
		return errors.New("it is set by the protocol")
	}
	return nil
}

// credentials reads those that flags or standard input give.
func (r *Registry) credentials(o *registry.Options, env *cli.Env, stdinIsData bool) error {
	switch {
	case *r.tokenStdin && (r.token != "" || *r.passwordStdin), r.token != "" && *r.passwordStdin:
		return cli.Usagef("--token, --token-stdin and --password-stdin exclude each other")
	case *r.tokenStdin && stdinIsData:
		return cli.Usagef("standard input is the data: give the token with --token, or in $OCIKIT_TOKEN")
	case *r.tokenStdin:
		var err error
		if o.RegistryToken, err = ReadSecret(env.Stdin); err != nil {
			return err
		}
	default:
		o.RegistryToken = r.token
	}

	// A name without its password would be sent with an empty one.
	if o.Username != "" && !*r.passwordStdin {
		return cli.Usagef("--username goes with --password-stdin")
	}

	if *r.passwordStdin {
		if stdinIsData {
			return cli.Usagef("standard input is the data: give the password with --authfile")
		}
		if o.Username == "" {
			return cli.Usagef("--password-stdin goes with --username")
		}
		var err error
		if o.Password, err = ReadSecret(env.Stdin); err != nil {
			return err
		}
	}

	return nil
}

// ReadSecret returns the first line of standard input, without its end, of at most 64 KiB. An empty
// one is an error.
func ReadSecret(stdin io.Reader) (string, error) {
	line, err := bufio.NewReader(io.LimitReader(stdin, 64<<10)).ReadString('\n')
	if err != nil && err != io.EOF {
		return "", err
	}
	if line = strings.TrimRight(line, "\r\n"); line == "" {
		return "", errors.New("standard input: no password")
	}
	return line, nil
}

func (r *Registry) openTrace(env *cli.Env, o *registry.Options) error {
	var sinks []func(registry.Event)
	if env.Verbose {
		sinks = append(sinks, registry.TraceText(env.Stderr))
	}

	switch {
	case r.trace.given && r.trace.file == "":
		sinks = append(sinks, registry.TraceJSON(env.Stderr))
	case r.trace.given:
		f, err := env.OpenFile(r.trace.file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return err
		}
		env.AtEnd(f.Close)
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

// Client returns a client for the registry of ref, which is closed when the command has ended. A
// command may have clients for several registries, but not with a secret on its command line or on
// standard input: that belongs to one of them.
func (r *Registry) Client(env *cli.Env, ref registry.Reference, stdinIsData bool) (*registry.Client, error) {
	// Standard input can be read once, however many clients there are.
	if r.read == nil {
		o, err := r.options(env, stdinIsData)
		if err != nil {
			return nil, err
		}
		r.read, r.host = &o, ref.Host
	}

	if ref.Host != r.host && (r.read.Username != "" || r.read.RegistryToken != "") {
		return nil, &cli.UsageError{
			Msg:    fmt.Sprintf("a user name or token is for one registry, and there are %s and %s", r.host, ref.Host),
			Advice: "--authfile FILE holds credentials for each of them, as \"ocikit login\" writes it",
		}
	}

	c, err := registry.New(ref, *r.read)
	if err != nil {
		return nil, err
	}

	env.AtEnd(func() error { c.Close(); return nil })
	return c, nil
}

// Dial reads an operand with the parser, as [ParseRef] does, and returns a client for its registry, as
// [Registry.Client] does.
func (r *Registry) Dial(env *cli.Env, parse func(string) (registry.Reference, error), operand string, stdinIsData bool) (*registry.Client, registry.Reference, error) {
	ref, err := ParseRef(parse, operand)
	if err != nil {
		return nil, ref, err
	}
	c, err := r.Client(env, ref, stdinIsData)
	return c, ref, err
}

// ParseRef reads a reference from the command line with the parser. One that is malformed, or has a
// digest that cannot be verified, is a usage error.
func ParseRef(parse func(string) (registry.Reference, error), s string) (registry.Reference, error) {
	ref, err := parse(s)
	if err != nil {
		return ref, cli.Usagef("%v", err)
	}
	if d := ref.Digest; !d.IsZero() && !d.Verifiable() {
		return ref, cli.Usagef("%q: a digest of %s cannot be verified: want sha256 or sha512", s, d.Algorithm())
	}
	return ref, nil
}
