package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/registry/auth"
	"ocikit/oci/registry/wire"
)

// ErrReference is wrapped by the errors of all functions here that parse or check a reference or a
// part of one.
var ErrReference = errors.New("malformed reference")

// A Reference says where something is in a registry: HOST[:PORT]/REPO[:TAG][@DIGEST].
// Its parts have been checked, so they may be used in a URL as they are.
type Reference struct {
	Scheme string // "http" or "https" if the text began with it, else ""
	Host   string // lower case, with the port if one was given; "docker.io" for Docker Hub
	Repo   string
	Tag    string
	Digest digest.Digest // counts before the tag if both are there
}

// maxName bounds host and repository together, as many registries and clients do.
const maxName = 255

var (
	hostGrammar = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*$`)
	})
	repoGrammar = sync.OnceValue(func() *regexp.Regexp {
		return regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	})
	tagGrammar = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`) })
)

// ParseReference reads HOST[:PORT]/REPO[:TAG][@DIGEST], with "docker://" (or the scheme of
// the registry, "http://" or "https://") in front if need be. As in Docker, a first
// component that cannot be a host (no dot, no colon, not "localhost") belongs to a
// repository on Docker Hub. A text with user information is refused and not repeated in the
// error.
func ParseReference(s string) (Reference, error) {
	r, err := parseReference(s)
	if err != nil {
		return Reference{}, fmt.Errorf("%w %s: %w", ErrReference, quoteReference(s), err)
	}
	return r, nil
}

// ParseRepository reads HOST[:PORT]/REPO: a reference that has neither tag nor digest.
func ParseRepository(s string) (Reference, error) {
	r, err := ParseReference(s)
	if err == nil && (r.Tag != "" || !r.Digest.IsZero()) {
		return Reference{}, fmt.Errorf("%w %s: want HOST/REPO without a tag or digest", ErrReference, quoteReference(s))
	}
	return r, err
}

// ParseHost reads HOST[:PORT], the name of a registry alone.
func ParseHost(s string) (Reference, error) {
	r, host := cutScheme(s)
	if strings.Contains(host, "/") {
		return Reference{}, fmt.Errorf("%w %s: want HOST[:PORT] without a repository", ErrReference, quoteReference(s))
	}
	host, err := parseHost(host)
	if err != nil {
		return Reference{}, fmt.Errorf("%w %s: %w", ErrReference, quoteReference(s), err)
	}
	r.Host = host
	return r, nil
}

// ParsePrefix reads HOST[:PORT][/PREFIX], the place that repositories are put below. A name without
// a slash is a host if it can be one, else a repository of Docker Hub.
func ParsePrefix(s string) (Reference, error) {
	if r, rest := cutScheme(s); !strings.Contains(rest, "/") {
		if _, _, isHost := cutHost(rest); isHost || r.Scheme != "" {
			return ParseHost(s)
		}
	}
	return ParseRepository(s)
}

// cutScheme takes the scheme of the registry, or "docker://", off the front of a reference.
func cutScheme(s string) (Reference, string) {
	for _, scheme := range []string{"https", "http"} {
		if rest, ok := strings.CutPrefix(s, scheme+"://"); ok {
			return Reference{Scheme: scheme}, rest
		}
	}
	return Reference{}, strings.TrimPrefix(s, "docker://")
}

// parseReference reads a reference. Its errors do not repeat what may be a password.
func parseReference(s string) (Reference, error) {
	r, rest := cutScheme(s)
	name, dig, hasDigest := strings.Cut(rest, "@")

	// user:password@host must not be taken for a digest, nor be printed. It is told from
	// HOST@DIGEST, which is a mistake of another kind, by what follows the @.
	if first, _, _ := strings.Cut(rest, "/"); strings.Contains(first, "@") && !digestSuffix().MatchString(first) {
		return r, errors.New("credentials do not belong into a reference")
	}

	if hasDigest {
		d, err := digest.Parse(dig)
		if err != nil && !digestSuffix().MatchString("@"+dig) {
			return r, errors.New("what follows the @ is not a digest") // it may be half a password
		}
		if err != nil {
			return r, err
		}
		r.Digest = d
	}

	// sha256:… alone would be read as the image sha256 of Docker Hub with a long tag.
	if _, err := digest.Parse(name); err == nil && strings.HasPrefix(name, "sha") {
		return r, errors.New("it is a digest alone, want HOST/REPO@DIGEST")
	}

	host, path, hasHost := cutHost(name)
	switch {
	case r.Scheme != "" && !hasHost:
		return r, errors.New("want HOST/REPO")
	case hasHost && path == "":
		return r, errors.New("it names a registry alone, want HOST/REPO")
	}

	var err error
	if r.Host, err = parseHost(host); err != nil {
		return r, err
	}

	if err := r.setPath(path); err != nil {
		return r, err
	}

	// The official images of Docker Hub are written without their namespace.
	if r.Host == auth.HubHost && !strings.Contains(r.Repo, "/") {
		r.Repo = "library/" + r.Repo
	}

	return r, nil
}

var digestSuffix = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`@sha(256|512):`) })

// cutHost splits name as Docker does, with one exception: a host alone is a host. So localhost:5000
// and 127.0.0.1:5000 are not images of Docker Hub with the tag 5000. That takes no name away, since
// no official image of Docker Hub has a dot.
func cutHost(name string) (host, path string, found bool) {
	first, rest, slash := strings.Cut(name, "/")
	if !slash {
		first, _, _ = strings.Cut(name, ":")
	}
	switch isHost := strings.ContainsAny(first, ".:[") || first == "localhost"; {
	case isHost && slash:
		return first, rest, true
	case isHost:
		return name, "", true
	}
	return auth.HubHost, name, false
}

// parseHost checks HOST[:PORT] and returns it in lower case, with the one name that stands for
// Docker Hub.
func parseHost(s string) (string, error) {
	name, port := s, ""

	// The last colon begins the port, unless it is within the brackets of an IPv6 address.
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		name, port = s[:i], s[i+1:]
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 || port[0] < '0' || port[0] > '9' {
			return "", errors.New("port is not a number from 1 to 65535")
		}
	}

	if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
		ip, err := netip.ParseAddr(name[1 : len(name)-1])
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return "", errors.New("host is not an IPv6 address in brackets")
		}
	} else if len(name) > 253 || !hostGrammar().MatchString(name) {
		return "", errors.New("host: want letters, digits and hyphens, joined by dots")
	}

	host := strings.ToLower(s)
	switch host {
	case "index.docker.io", auth.HubEndpoint:
		host = auth.HubHost
	}

	return host, nil
}

// setPath sets repository and tag from what follows the host.
func (r *Reference) setPath(path string) error {
	repo, tag, tagged := strings.Cut(path, ":")
	if len(r.Host)+1+len(repo) > maxName {
		return fmt.Errorf("host and repository have %d bytes, the limit is %d", len(r.Host)+1+len(repo), maxName)
	}
	if !repoGrammar().MatchString(repo) {
		return errors.New("repository: want lower-case letters and digits, joined by one of . _ __ - and /")
	}
	if tagged && !tagGrammar().MatchString(tag) {
		return errors.New("tag: want at most 128 letters, digits and . _ -, the first no . or -")
	}
	r.Repo, r.Tag = repo, tag
	return nil
}

// quoteReference returns s for a message. What stands before an @ may be a password and is left out,
// unless the @ begins a digest.
func quoteReference(s string) string {
	head, tail := s, ""
	if i := strings.LastIndexByte(s, '@'); i >= 0 && digestSuffix().MatchString(s[i:]) {
		head, tail = s[:i], s[i:]
	}
	if i := strings.LastIndexByte(head, '@'); i >= 0 {
		head = "…" + head[i:]
	}
	return wire.Quote(head + tail)
}

// String returns the form that [ParseReference] reads.
func (r Reference) String() string {
	s := r.Repository()
	if r.Scheme != "" {
		s = r.Scheme + "://" + s
	}
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if !r.Digest.IsZero() {
		s += "@" + r.Digest.String()
	}
	return s
}

// Repository returns HOST/REPO, or HOST alone if there is no repository.
func (r Reference) Repository() string {
	if r.Repo == "" {
		return r.Host
	}
	return r.Host + "/" + r.Repo
}

// Name returns the tag or digest to ask for the manifest by: the digest if there is one, else the
// tag, else "latest".
func (r Reference) Name() string {
	switch {
	case !r.Digest.IsZero():
		return r.Digest.String()
	case r.Tag != "":
		return r.Tag
	}
	return "latest"
}

// BaseURL returns the scheme, host and port that requests go to: HTTPS, unless the scheme of r or
// plainHTTP says otherwise. guessed means that HTTPS is an assumption about a registry on this
// machine, which may turn out to talk HTTP.
func (r Reference) BaseURL(plainHTTP bool) (base *url.URL, guessed bool) {
	u := &url.URL{Scheme: "https", Host: r.Host}
	if r.Host == auth.HubHost {
		u.Host = auth.HubEndpoint
	}
	switch {
	case r.Scheme != "":
		u.Scheme = r.Scheme
	case plainHTTP:
		u.Scheme = "http"
	default:
		guessed = wire.IsLoopbackName(u.Hostname())
	}
	return u, guessed
}

// TokenHosts returns the hosts, other than the registry's own, whose token servers are known to
// belong to it. They may be sent its credentials; any other host may not.
func (r Reference) TokenHosts() []string {
	switch r.Host {
	case auth.HubHost, "registry.hub.docker.com": // the second has keys of its own in credential files
		return []string{"auth.docker.io"}
	case "registry.gitlab.com":
		return []string{"gitlab.com"}
	case "registry.redhat.io", "registry.access.redhat.com", "registry.connect.redhat.com":
		return []string{"registry.redhat.io", "registry.access.redhat.com", "registry.connect.redhat.com"}
	}
	return nil
}

// CheckTag returns an error that wraps [ErrReference] unless tag follows the grammar of the
// distribution-spec ("Pulling manifests").
func CheckTag(tag string) error {
	if !tagGrammar().MatchString(tag) {
		return fmt.Errorf("%w: tag %s: want at most 128 letters, digits and . _ -, the first no . or -", ErrReference, wire.Quote(tag))
	}
	return nil
}

// CheckRepository returns an error that wraps [ErrReference] unless name follows the grammar of the
// distribution-spec ("Pulling manifests") and has at most 255 bytes.
func CheckRepository(name string) error {
	if len(name) > maxName || !repoGrammar().MatchString(name) {
		return fmt.Errorf("%w: repository %s: want lower-case letters and digits, joined by one of . _ __ - and /", ErrReference, wire.Quote(name))
	}
	return nil
}

// CheckName returns an error that wraps [ErrReference] unless name is a full name
// [HOST/]REPO[:TAG][@DIGEST] under which an image could go to a registry. The digest is not looked
// at.
func CheckName(name string) error {
	n := oci.SplitName(name)
	host, path := oci.CutHost(n.Repo)
	err := CheckRepository(path)
	if err == nil && host != "" {
		_, err = ParseHost(host)
	}
	if err == nil && n.Tag != "" {
		err = CheckTag(n.Tag)
	}
	if err == nil && len(n.Repo) > maxName {
		err = fmt.Errorf("%w: host and repository have %d bytes, the limit is %d", ErrReference, len(n.Repo), maxName)
	}
	return err
}
