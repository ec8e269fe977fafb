package wire

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// newTransports makes the three transports. All trust the registry's authorities, since the token
// server and storage of a private registry usually have certificates of the same one. A client
// certificate is a credential, so only the registry's own origin (home) gets it. Insecure covers the
// registry's host on any port (home and near), but no other host (away): a password sent to a token
// server there would go to a stranger.
func (c *Conn) newTransports() error {
	home, err := c.homeTLS()
	if err != nil {
		return err
	}
	c.home = c.newTransport(home, nil)
	c.early = &aheadDialer{dial: c.home.DialContext, now: c.o.Now, pending: map[string][]early{}}
	c.home.DialContext = c.early.DialContext

	near := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: home.RootCAs, InsecureSkipVerify: c.o.Insecure}
	c.near = c.newTransport(near, c.checkDial)
	away := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: home.RootCAs}
	c.away = c.newTransport(away, c.checkDial)
	return nil
}

// transport returns the way to u.
func (c *Conn) transport(u *url.URL) *http.Transport {
	switch {
	case c.IsHome(u):
		return c.home
	case strings.EqualFold(u.Hostname(), c.Hostname):
		return c.near
	}
	return c.away
}

// RoundTrip implements [http.RoundTripper] for a caller that hands on the requests of another
// program. The request is sent as it is: nothing is authorized, followed, repeated or traced. Names
// and addresses are checked as for any other request.
func (c *Conn) RoundTrip(req *http.Request) (*http.Response, error) {
	if proxy, err := c.proxy.forRequest(req); err == nil && proxy != nil {
		req = req.WithContext(context.WithValue(req.Context(), proxiedKey{}, true))
	}
	return c.transport(req.URL).RoundTrip(req)
}

// A control checks an address before it is dialled, see [net.Dialer.ControlContext].
type control func(ctx context.Context, network, address string, conn syscall.RawConn) error

// newTransport returns a transport that dials only what check lets pass; a nil check lets all pass.
func (c *Conn) newTransport(config *tls.Config, check control) *http.Transport {
	protocols := new(http.Protocols)
	// HTTP/2 would put parallel uploads on one connection, where one cut breaks them all.
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  c.proxy.forRequest,
		DialContext:            c.dialer(check),
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    min(c.o.Timeout, 15*time.Second),
		DisableCompression:     true, // digests are those of the bytes on the wire
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         32 << 10, // a read of as much passes it: io.Copy makes such ones
		Protocols:              protocols,
	}
}

// dialer returns a function that dials an address after check. One that the user set for a host
// is dialled in place of what its name means, and needs no check.
func (c *Conn) dialer(check control) func(ctx context.Context, network, address string) (net.Conn, error) {
	plain := &net.Dialer{Timeout: min(c.o.Timeout, 15*time.Second), KeepAlive: 15 * time.Second}
	checked := *plain
	checked.ControlContext = check
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		d := &checked
		if set, ok := c.o.Resolve[strings.ToLower(address)]; ok {
			d, address = plain, set
		}
		conn, err := d.DialContext(ctx, network, address)
		switch {
		case err != nil:
			return nil, err
		case c.o.Dialed != nil:
			return c.o.Dialed(conn)
		}
		return c.inPieces(conn), nil
	}
}

// homeTLS collects the registry's certificates: those of the options, else those of the
// certs.d directories that container tools share.
func (c *Conn) homeTLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.o.Insecure}
	cas, pairs := c.certsD()

	// A file that the user names replaces those of certs.d; both come beside the authorities of
	// the system.
	if c.o.CAFile != "" {
		cas = []string{c.o.CAFile}
	}

	if len(cas) > 0 {
		var err error
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
		for _, name := range cas {
			pem, err := c.o.ReadFile(name)
			if err != nil {
				return nil, fmt.Errorf("CA file: %w", err)
			}
			if !config.RootCAs.AppendCertsFromPEM(pem) {
				return nil, fmt.Errorf("CA file %q: no PEM certificate", name)
			}
		}
	}

	switch {
	case c.o.CertFile != "" && c.o.KeyFile != "":
		pairs = [][2]string{{c.o.CertFile, c.o.KeyFile}}
	case c.o.CertFile != "" || c.o.KeyFile != "":
		return nil, errors.New("a client certificate needs both its file and that of its key")
	}

	for _, pair := range pairs {
		cert, err := c.keyPair(pair[0], pair[1])
		if err != nil {
			return nil, fmt.Errorf("client certificate %q: %w", pair[0], err)
		}
		config.Certificates = append(config.Certificates, cert)
	}

	return config, nil
}

// keyPair reads a certificate of the client and its key.
func (c *Conn) keyPair(certFile, keyFile string) (tls.Certificate, error) {
	cert, err := c.o.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := c.o.ReadFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(cert, key)
}

// certsD reads the first certs.d directory that knows the registry: *.crt are authorities,
// x.cert with x.key is a client certificate (containers-certs.d(5)).
func (c *Conn) certsD() (cas []string, pairs [][2]string) {
	host := c.o.Host

	// The host becomes the name of a directory, and must not lead out of certs.d.
	if strings.ContainsAny(host, "/\\") {
		return nil, nil
	}

	for _, dir := range c.certsDirs() {
		dir = filepath.Join(dir, host)
		names, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			c.Notice(fmt.Sprintf("certificates: %v", err))
			continue
		}

		for _, n := range names {
			file := filepath.Join(dir, n.Name())
			stem := strings.TrimSuffix(file, filepath.Ext(file))
			switch filepath.Ext(file) {
			case ".crt":
				cas = append(cas, file)
			case ".cert":
				if _, err := os.Stat(stem + ".key"); err != nil {
					c.Notice(fmt.Sprintf("client certificate %q has no key beside it", file))
					continue
				}
				pairs = append(pairs, [2]string{file, stem + ".key"})
			case ".key":
				if _, err := os.Stat(stem + ".cert"); err != nil {
					c.Notice(fmt.Sprintf("key %q has no client certificate beside it", file))
				}
			}
		}

		return cas, pairs
	}

	return nil, nil
}

// certsDirs returns the certs.d directories, the user's before the system's: podman's, rootless
// Docker's, Docker Desktop's.
func (c *Conn) certsDirs() []string {
	var dirs []string
	config := c.o.Getenv("XDG_CONFIG_HOME")
	if config == "" && c.o.Home != "" {
		config = filepath.Join(c.o.Home, ".config")
	}
	if config != "" {
		dirs = append(dirs, filepath.Join(config, "containers", "certs.d"), filepath.Join(config, "docker", "certs.d"))
	}
	if c.o.Home != "" {
		dirs = append(dirs, filepath.Join(c.o.Home, ".docker", "certs.d"))
	}
	return append(dirs, "/etc/containers/certs.d", "/etc/docker/certs.d")
}

// IsLoopbackName reports whether host can only mean this machine.
func IsLoopbackName(host string) bool {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

// A reach says who can answer at an address.
type reach int

const (
	public reach = iota
	private
	loopback
	special // link-local, multicast, unspecified: metadata services live here
)

// reachOf returns the reach of an address. 100.64.0.0/10 is shared by the customers of a provider
// (RFC 6598), and counts as private.
func reachOf(ip netip.Addr) reach {
	ip = ip.Unmap()
	shared := netip.MustParsePrefix("100.64.0.0/10")
	switch {
	case ip.IsLoopback():
		return loopback
	case ip.IsPrivate(), ip.Is4() && shared.Contains(ip):
		return private
	case ip.IsGlobalUnicast():
		return public
	}
	return special
}

// mayReach reports whether a registry at an address of one reach may send us to another:
// nobody is sent to a place that is more local than the registry itself.
func mayReach(from, to reach) bool {
	switch to {
	case public:
		return true
	case private:
		return from == private || from == loopback
	case loopback:
		return from == loopback
	}
	return false
}

// checkDial is called before a connection to any host but the registry is made, with the address
// that its name was resolved to. At this point a name cannot mean another address any more. A proxy
// resolves names itself, so behind one nothing can be checked.
func (c *Conn) checkDial(ctx context.Context, network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: address %q", ErrUnsafe, address)
	}
	if proxied, _ := ctx.Value(proxiedKey{}).(bool); proxied {
		return nil
	}
	from := c.homeReach(ctx)
	if !mayReach(from, reachOf(to.Addr())) {
		return fmt.Errorf("%w: it leads from %s to the local address %s", ErrUnsafe, c.o.Host, to.Addr())
	}
	return nil
}

// proxiedKey marks the context of a request that goes through a proxy.
type proxiedKey struct{}

// homeReach returns the widest reach of the registry's own addresses.
func (c *Conn) homeReach(ctx context.Context) reach {
	host := c.Hostname
	if set, ok := c.o.Resolve[c.dialAddress()]; ok {
		host, _, _ = net.SplitHostPort(set)
	}

	if IsLoopbackName(host) {
		return loopback
	}

	if ip, err := netip.ParseAddr(host); err == nil {
		return reachOf(ip)
	}

	// A name that cannot be resolved counts as public, and one with several addresses as the
	// most public of them: both allow the least.
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil || len(addrs) == 0 {
		return public
	}

	widest := special
	for _, ip := range addrs {
		widest = min(widest, reachOf(ip))
	}

	return widest
}

// dialAddress returns host and port of the registry as they are dialled.
func (c *Conn) dialAddress() string {
	u, _ := url.Parse(c.URL())
	_, address, _ := strings.Cut(Origin(u), "://")
	return address
}
