package registry

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
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// newTransports makes the two ways out: home with the certificates of the registry, away
// without them and with a check of each address that is dialled.
func (c *Client) newTransports() error {
	home, err := c.homeTLS()
	if err != nil {
		return err
	}
	c.home = c.newTransport(home, nil)
	c.early = &warmDialer{dial: c.home.DialContext, now: c.o.Now, pending: map[string][]early{}}
	c.home.DialContext = c.early.DialContext
	c.away = c.newTransport(&tls.Config{MinVersion: tls.VersionTLS12}, c.checkDial)
	return nil
}

type control func(ctx context.Context, network, address string, conn syscall.RawConn) error

func (c *Client) newTransport(config *tls.Config, check control) *http.Transport {
	d := &net.Dialer{Timeout: min(c.o.Timeout, 15*time.Second), KeepAlive: 15 * time.Second, ControlContext: check}
	protocols := new(http.Protocols)
	// HTTP/2 would put parallel uploads on one connection, where one cut breaks them all.
	protocols.SetHTTP1(true)
	return &http.Transport{
		Proxy:                  c.proxy.forRequest,
		DialContext:            d.DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    min(c.o.Timeout, 15*time.Second),
		DisableCompression:     true, // digests are those of the bytes on the wire
		MaxIdleConnsPerHost:    16,
		IdleConnTimeout:        30 * time.Second,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
		WriteBufferSize:        64 << 10,
		ReadBufferSize:         64 << 10,
		Protocols:              protocols,
	}
}

// homeTLS collects the registry's certificates: those of the options, else those of the
// certs.d directories that container tools share.
func (c *Client) homeTLS() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.o.Insecure}
	cas, pairs, err := c.certsD()
	if err != nil {
		return nil, err
	}
	if c.o.CAFile != "" {
		cas = []string{c.o.CAFile}
	}
	if len(cas) > 0 {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			config.RootCAs = x509.NewCertPool()
		}
		for _, name := range cas {
			pem, err := os.ReadFile(name)
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
		cert, err := tls.LoadX509KeyPair(pair[0], pair[1])
		if err != nil {
			return nil, fmt.Errorf("client certificate %q: %w", pair[0], err)
		}
		config.Certificates = append(config.Certificates, cert)
	}
	return config, nil
}

// certsD reads the first certs.d directory that knows the registry: *.crt are authorities,
// x.cert with x.key is a client certificate (containers-certs.d(5)).
func (c *Client) certsD() (cas []string, pairs [][2]string, err error) {
	host := c.ref.Host
	if strings.ContainsAny(host, "[]/\\") {
		return nil, nil, nil
	}
	var dirs []string
	if c.o.Home != "" {
		dirs = append(dirs, filepath.Join(c.o.Home, ".config", "containers", "certs.d"))
	}
	dirs = append(dirs, "/etc/containers/certs.d", "/etc/docker/certs.d")
	for _, dir := range dirs {
		dir = filepath.Join(dir, host)
		names, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			c.notice(fmt.Sprintf("certificates: %v", err))
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
					c.notice(fmt.Sprintf("client certificate %q has no key beside it", file))
					continue
				}
				pairs = append(pairs, [2]string{file, stem + ".key"})
			case ".key":
				if _, err := os.Stat(stem + ".cert"); err != nil {
					c.notice(fmt.Sprintf("key %q has no client certificate beside it", file))
				}
			}
		}
		return cas, pairs, nil
	}
	return nil, nil, nil
}

// isLoopbackName reports whether host can only mean this machine.
func isLoopbackName(host string) bool {
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

// checkDial is called with each address, after names have been looked up, that a connection
// to somebody else than the registry is about to be made to. Behind a proxy, which looks up
// names itself, it can check nothing.
func (c *Client) checkDial(ctx context.Context, network, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: address %q", ErrUnsafe, address)
	}
	if proxied, _ := ctx.Value(proxiedKey{}).(bool); proxied {
		return nil
	}
	from := c.homeReach(ctx)
	if !mayReach(from, reachOf(to.Addr())) {
		return fmt.Errorf("%w: it leads from %s to the local address %s", ErrUnsafe, c.ref.Host, to.Addr())
	}
	return nil
}

// proxiedKey marks the context of a request that goes through a proxy.
type proxiedKey struct{}

// homeReach returns the widest reach of the registry's own addresses.
func (c *Client) homeReach(ctx context.Context) reach {
	host := c.hostname
	if isLoopbackName(host) {
		return loopback
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return reachOf(ip)
	}
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
