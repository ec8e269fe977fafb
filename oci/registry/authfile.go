package registry

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

// fromFiles searches the credential files. One that was named is the only one that is read;
// otherwise all of the usual ones are, and the most specific key wins, in the order of the
// files.
func (c *Client) fromFiles(ctx context.Context) (*credential, error) {
	files, err := c.authFiles()
	if err != nil {
		return nil, err
	}
	host := c.ref.Host
	// A helper of its own for the registry comes before any key with a path, in its file.
	var paths []pathKey
	for _, f := range files {
		if helper, ok := f.helper(host); ok && helper != "" {
			continue
		}
		paths = append(paths, f.pathKeys(host, c.ref.Repo)...)
	}
	slices.SortStableFunc(paths, func(a, b pathKey) int { return len(b.norm) - len(a.norm) })
	for _, p := range paths {
		if k, err := p.file.inline(p.key); err != nil || !k.none() {
			return k, err
		}
	}
	for _, f := range files {
		helper, named := f.helper(host)
		if !named {
			helper = f.CredsStore
		}
		if helper != "" {
			k, err := c.runHelper(ctx, helper, f.name)
			if errors.Is(err, errNoHelper) && !named {
				// The file came from another machine, with the store of that one.
				c.notice(err.Error())
				err = nil
			}
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
func (c *Client) authFiles() ([]*authFile, error) {
	env := c.o.Getenv
	if c.o.AuthFile != "" {
		f, err := readAuthFile(c.o.AuthFile, false)
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
	if name := env("REGISTRY_AUTH_FILE"); name != "" {
		err := add(name, false)
		return files, err
	}
	if text := env("DOCKER_AUTH_CONFIG"); text != "" {
		f, err := parseAuthFile("DOCKER_AUTH_CONFIG", []byte(text), false)
		if err != nil {
			return nil, err
		}
		files = append(files, f)
	}
	for _, name := range c.usualFiles() {
		if err := add(name, false); err != nil {
			return nil, err
		}
	}
	if c.o.Home != "" {
		if err := add(filepath.Join(c.o.Home, ".dockercfg"), true); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func (c *Client) usualFiles() []string {
	env, home := c.o.Getenv, c.o.Home
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

// normalizeKey strips what users and tools put around a registry's name in a key.
func normalizeKey(key string) string {
	rest, hadScheme := strings.CutPrefix(key, "https://")
	if !hadScheme {
		rest, hadScheme = strings.CutPrefix(key, "http://")
	}
	host, path, _ := strings.Cut(rest, "/")
	host = strings.ToLower(host)
	if host == "index.docker.io" || host == hubEndpoint {
		host = hubHost
		if path == "v1/" || path == "v1" || path == "v2/" || path == "v2" {
			path = ""
		}
	}
	path = strings.TrimSuffix(path, "/")
	if hadScheme || path == "" {
		return host
	}
	return host + "/" + path
}

// inline decodes one entry of auths. An empty entry gives an empty credential.
func (f *authFile) inline(key string) (*credential, error) {
	bad := func(why string) (*credential, error) {
		return nil, fmt.Errorf("file %q: entry %s: %s", f.name, quote(key), why)
	}
	var e authEntry
	if json.Unmarshal(f.Auths[key], &e) != nil {
		return bad("it is not an object of texts")
	}
	k := &credential{
		username: e.Username, password: e.Password, identityToken: e.IdentityToken, registryToken: e.RegistryToken,
		info: CredentialInfo{Source: "file", File: f.name, Key: key},
	}
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
