package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"ocikit/oci"
	"ocikit/oci/registry/wire"
)

// An authFile is a credential file of Docker or podman: config.json, auth.json.
type authFile struct {
	name        string                     // for messages
	Auths       map[string]json.RawMessage `json:"auths"`
	CredHelpers map[string]string          `json:"credHelpers"`
	CredsStore  string                     `json:"credsStore"`
}

type authEntry struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// fromFiles searches the credential files. One that was named is the only one that is read; otherwise
// all of the usual ones are. A key that names the repository, or a path above it, comes before one
// of the host alone, the longest first. Among equals the order of the files counts.
func (a *Authenticator) fromFiles(ctx context.Context) (*credential, error) {
	files, err := a.authFiles()
	if err != nil {
		return nil, err
	}

	host := a.o.Host

	// In a file that names a helper for the registry, the helper comes before any key with a path.
	var paths []pathKey
	for _, f := range files {
		if helper, ok := f.helper(host); ok && helper != "" {
			continue
		}
		paths = append(paths, f.pathKeys(host, a.o.Repo)...)
	}

	slices.SortStableFunc(paths, func(p, q pathKey) int { return len(q.norm) - len(p.norm) })
	for _, p := range paths {
		if k, err := p.file.inline(p.key); err != nil || !k.none() {
			return k, err
		}
	}

	// Within a file the helper of the host comes before the entries.
	for _, f := range files {
		if helper := f.keeper(host); helper != "" {
			k, err := a.runHelper(ctx, helper, f.name)
			if err != nil || k != nil {
				return k, err
			}
		}
		for _, key := range f.hostKeys(host) {
			if k, err := f.inline(key); err != nil || !k.none() {
				return k, err
			}
		}
	}

	return nil, nil
}

// authFiles reads the files that count. One that is absent does not, unless it was named in
// the options.
func (a *Authenticator) authFiles() ([]*authFile, error) {
	env := a.o.Getenv
	if a.o.AuthFile != "" {
		f, err := readAuthFile(a.o.AuthFile, false)
		return []*authFile{f}, err
	}

	var files []*authFile
	add := func(name string, legacy bool) error {
		f, err := readAuthFile(name, legacy)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotDir) {
			return nil
		}
		if err == nil {
			files = append(files, f)
		}
		return err
	}

	// Podman and skopeo read this file alone if it is named, and an absent one is not an error.
	if name := env("REGISTRY_AUTH_FILE"); name != "" {
		err := add(name, false)
		return files, err
	}

	// GitLab's runners, and newer versions of Docker, pass a whole file in this variable. The
	// others are read as well.
	if text := env("DOCKER_AUTH_CONFIG"); text != "" {
		f, err := parseAuthFile("DOCKER_AUTH_CONFIG", []byte(text), false)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}

	for _, name := range a.usualFiles() {
		if err := add(name, false); err != nil {
			return nil, err
		}
	}

	if a.o.Home != "" {
		if err := add(filepath.Join(a.o.Home, ".dockercfg"), true); err != nil {
			return nil, err
		}
	}

	return files, nil
}

// usualFiles returns the places where Docker and podman keep credentials, in the order in which they
// count. An environment variable replaces its default place.
func (a *Authenticator) usualFiles() []string {
	env, home := a.o.Getenv, a.o.Home
	var names []string
	if dir := env("DOCKER_CONFIG"); dir != "" {
		names = append(names, filepath.Join(dir, "config.json"))
	} else if home != "" {
		names = append(names, filepath.Join(home, ".docker", "config.json"))
	}

	if dir := env("XDG_RUNTIME_DIR"); dir != "" {
		names = append(names, filepath.Join(dir, "containers", "auth.json"))
	} else if runtime.GOOS == "linux" && home != "" {
		names = append(names, fmt.Sprintf("/run/containers/%d/auth.json", os.Getuid()))
	}

	if dir := env("XDG_CONFIG_HOME"); dir != "" {
		names = append(names, filepath.Join(dir, "containers", "auth.json"))
	} else if home != "" {
		names = append(names, filepath.Join(home, ".config", "containers", "auth.json"))
	}

	return names
}

var errNotDir = errors.New("not a directory")

// readAuthFile reads a file. One in a directory that is not there counts as absent, too.
func readAuthFile(name string, legacy bool) (*authFile, error) {
	info, err := os.Stat(name)
	if err != nil {
		if _, dirErr := os.Stat(filepath.Dir(name)); dirErr != nil && !errors.Is(dirErr, fs.ErrPermission) {
			return nil, fmt.Errorf("file %q: %w", name, fs.ErrNotExist)
		}
		return nil, fmt.Errorf("file %q: %w", name, err)
	}

	if !info.Mode().IsRegular() || info.Size() > oci.MaxDocument {
		return nil, fmt.Errorf("file %q: want a regular file of at most %d bytes", name, oci.MaxDocument)
	}

	data, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", name, err)
	}

	return parseAuthFile(name, data, legacy)
}

// parseAuthFile decodes a file. Errors never repeat its text.
func parseAuthFile(name string, data []byte, legacy bool) (*authFile, error) {
	f := &authFile{name: name}
	if len(strings.TrimSpace(string(data))) == 0 {
		return f, nil
	}
	var err error
	if legacy {
		err = oci.Decode(data, &f.Auths)
	} else {
		err = oci.Decode(data, f)
	}
	if err != nil {
		return nil, fmt.Errorf("file %q: it is not one JSON object as a credential file is", name)
	}
	return f, nil
}

// keeper returns the program that keeps the credentials for host, "" for none: credsStore is the helper for
// all hosts that credHelpers does not name.
func (f *authFile) keeper(host string) string {
	if helper, named := f.helper(host); named {
		return helper
	}
	return f.CredsStore
}

// helper returns the program that credHelpers names for host; "" switches helpers off.
func (f *authFile) helper(host string) (string, bool) {
	for key, helper := range f.CredHelpers {
		if normalizeKey(key) == host {
			return helper, true
		}
	}
	return "", false
}

type pathKey struct {
	file *authFile
	key  string // as written
	norm string
}

// pathKeys returns the keys that name the repository, or one above it, with a path.
func (f *authFile) pathKeys(host, repo string) []pathKey {
	var keys []pathKey
	for key := range f.Auths {
		norm := normalizeKey(key)
		if strings.HasPrefix(norm, host+"/") && (norm == host+"/"+repo || strings.HasPrefix(host+"/"+repo, norm+"/")) {
			keys = append(keys, pathKey{f, key, norm})
		}
	}
	slices.SortFunc(keys, func(a, b pathKey) int { return strings.Compare(a.key, b.key) })
	return keys
}

// hostKeys returns the keys that name the registry, exact ones first. A default port is the
// same as none.
func (f *authFile) hostKeys(host string) []string {
	var exact, same []string
	for key := range f.Auths {
		switch norm := normalizeKey(key); {
		case norm == host:
			exact = append(exact, key)
		case norm == host+":443", norm+":443" == host:
			same = append(same, key)
		}
	}
	slices.Sort(exact)
	slices.Sort(same)
	return append(exact, same...)
}

// normalizeKey returns what a key of a credential file names: HOST, or HOST/PATH. One rule for
// all, as in Docker: the scheme is dropped, and so is a path behind a scheme, which is that of
// the API; without a scheme a path of "v1" or "v2" alone is that of the API, too. Any other one
// names a repository, or those below it.
func normalizeKey(key string) string {
	rest, hadScheme := strings.CutPrefix(key, "https://")
	if !hadScheme {
		rest, hadScheme = strings.CutPrefix(key, "http://")
	}
	host, path, _ := strings.Cut(rest, "/")
	host = strings.ToLower(host)
	if host == "index.docker.io" || host == HubEndpoint {
		host = HubHost
	}
	path = strings.TrimRight(path, "/")
	if hadScheme || path == "" || path == "v1" || path == "v2" {
		return host
	}
	return host + "/" + path
}

// inline decodes one entry of auths. An empty entry gives an empty credential.
func (f *authFile) inline(key string) (*credential, error) {
	bad := func(why string) (*credential, error) {
		return nil, fmt.Errorf("file %q: entry %s: %s", f.name, wire.Quote(key), why)
	}

	var e authEntry
	if json.Unmarshal(f.Auths[key], &e) != nil {
		return bad("it is not an object of texts")
	}

	k := &credential{
		username: e.Username, password: e.Password, identityToken: e.IdentityToken, registryToken: e.RegistryToken,
		info: CredentialInfo{Source: "file", File: f.name, Key: key},
	}

	// auth is user:password in base64, and counts before the separate members. Docker takes
	// zero bytes off the end of the password, too.
	if e.Auth != "" {
		text, err := base64.StdEncoding.DecodeString(strings.TrimSpace(e.Auth))
		if err != nil {
			return bad("auth is not base64")
		}
		user, password, ok := strings.Cut(string(text), ":")
		if !ok {
			return bad("auth has no colon between user name and password")
		}
		k.username, k.password = user, strings.TrimRight(password, "\x00")
	}

	return k, nil
}
