package tap

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Files of an authority.
const (
	authorityCert = "ca.crt"
	authorityKey  = "ca.key"
)

// Authority returns a certificate for names, of which there must be one, signed by the certificate
// authority in dir. If dir has none, it is made, good for a year: clients have to trust ca.crt, and
// ca.key has to stay secret. It is an error if only one of the two is there; neither is ever replaced.
// The certificate itself is new each time, good for 90 days, and not written anywhere.
func Authority(dir string, names []string, now time.Time) (tls.Certificate, error) {
	ca, key, err := loadAuthority(dir)
	if errors.Is(err, fs.ErrNotExist) {
		// One of the two files alone is somebody's, who would lose it.
		for _, name := range []string{authorityCert, authorityKey} {
			if _, statErr := os.Lstat(filepath.Join(dir, name)); !errors.Is(statErr, fs.ErrNotExist) {
				return tls.Certificate{}, fmt.Errorf("certificate authority %q has only one of two files: %w", dir, err)
			}
		}
		if err := makeAuthority(dir, now); err != nil {
			return tls.Certificate{}, err
		}
		ca, key, err = loadAuthority(dir)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate authority %q: %w", dir, err)
	}

	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}

	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: names[0]},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 0, 90),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}

	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}

	der, err := x509.CreateCertificate(rand.Reader, template, ca, &private.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}

	return tls.Certificate{Certificate: [][]byte{der, ca.Raw}, PrivateKey: private}, nil
}

// serial returns a random serial number, so that no two certificates of an authority share one.
func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err) // rand.Reader never fails
	}
	return n
}

// makeAuthority writes a new key and a certificate that may sign others, for a year.
func makeAuthority(dir string, now time.Time) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}

	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "ocikit tap"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true,
	}

	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return err
	}

	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return err
	}

	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}

	// The key first: a certificate without its key would look like an authority. A key alone would
	// be in the way of the next try.
	name := filepath.Join(dir, authorityKey)
	if err := writePEM(name, "PRIVATE KEY", secret, 0o600); err != nil {
		return err
	}

	err = writePEM(filepath.Join(dir, authorityCert), "CERTIFICATE", der, 0o644)
	if err != nil {
		os.Remove(name)
	}

	return err
}

// writePEM writes a file under a temporary name and renames it, so a reader sees all of it or nothing.
func writePEM(name, kind string, der []byte, mode fs.FileMode) error {
	tmp := name + ".new"
	if err := os.WriteFile(tmp, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// loadAuthority reads the authority in dir. A file that is missing gives [fs.ErrNotExist].
func loadAuthority(dir string) (*x509.Certificate, any, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, authorityCert), filepath.Join(dir, authorityKey))
	if err != nil {
		return nil, nil, err
	}
	ca, err := x509.ParseCertificate(pair.Certificate[0])
	if err == nil && !ca.IsCA {
		err = errors.New("the certificate may not sign others")
	}
	return ca, pair.PrivateKey, err
}
