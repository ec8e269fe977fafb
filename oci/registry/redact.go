package registry

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// A redactor takes the secrets out of everything that leaves the package as text: traces,
// errors, notices, curl lines. It knows the places where secrets stand, and the secrets
// themselves, which a registry may repeat anywhere. Safe for concurrent use.
type redactor struct {
	mu      sync.RWMutex
	secrets []string
}

// add makes secret one that never appears again, in any of its usual spellings.
func (r *redactor) add(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		if len(s) < 4 {
			continue // would black out ordinary text
		}
		text, _ := json.Marshal(s)
		inJSON, quoted := string(text[1:len(text)-1]), strconv.Quote(s)
		for _, form := range []string{
			s, url.QueryEscape(s), url.PathEscape(s), base64.StdEncoding.EncodeToString([]byte(s)), inJSON, quoted[1 : len(quoted)-1],
		} {
			if !slices.Contains(r.secrets, form) {
				r.secrets = append(r.secrets, form)
			}
		}
	}
	// The longest first: one secret may be part of another.
	slices.SortFunc(r.secrets, func(a, b string) int { return len(b) - len(a) })
}

var secretJSON = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`(?i)"(token|access_token|refresh_token|password|identitytoken|registrytoken|auth|secret)"\s*:\s*"[^"]*"?`)
})

// text returns s without known secrets and without the values of members of JSON that hold
// some by their name.
func (r *redactor) text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, "REDACTED")
	}
	s = userInfo().ReplaceAllString(s, "://REDACTED@")
	return secretJSON().ReplaceAllString(s, `"$1":"REDACTED"`)
}

var userInfo = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`://[^/@\s"]*@`) })

// plainQuery are the keys whose values are no secrets. The state of an upload and the
// signature of a storage URL stand under many names, so everything else is taken out.
var plainQuery = []string{"digest", "digest-algorithm", "mount", "from", "n", "last", "artifactType", "tag", "ns", "service", "scope", "account", "client_id"}

// url returns u without user information and without the values of its query that may be
// secrets. Two different values can still be told apart. It is plain ASCII.
func (r *redactor) url(u *url.URL) string {
	if u == nil {
		return ""
	}
	v := *u
	if v.User != nil {
		v.User = url.User("REDACTED")
	}
	v.RawQuery, v.Fragment, v.RawFragment = redactQuery(v.RawQuery), "", ""
	return truncate(escapeBytes(r.text(v.String())), 2048)
}

// escapeBytes escapes what is no ASCII in a URL. Package net/url leaves a query as it came.
func escapeBytes(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < utf8.RuneSelf {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func redactQuery(q string) string {
	if q == "" {
		return ""
	}
	parts := strings.Split(q, "&")
	for i, p := range parts {
		key, value, ok := strings.Cut(p, "=")
		name, err := url.QueryUnescape(key)
		if ok && value != "" && (err != nil || !slices.Contains(plainQuery, name)) {
			parts[i] = key + "=REDACTED-" + mark(value)
		}
	}
	return strings.Join(parts, "&")
}

// mark is enough to tell two secrets apart, too little to find one.
func mark(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:3])
}

var secretHeaders = []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"}

// header returns a copy of h for a trace.
func (r *redactor) header(h http.Header) map[string][]string {
	out := map[string][]string{}
	for name, values := range h {
		for _, v := range values {
			switch {
			case slices.Contains(secretHeaders, name):
				scheme, rest, _ := strings.Cut(v, " ")
				if rest == "" {
					scheme, rest = "", v
				}
				v = strings.TrimSpace(fmt.Sprintf("%s REDACTED (%d bytes, %s)", scheme, len(rest), mark(rest)))
			case name == "Location" || name == "Content-Location" || name == "Referer":
				if u, err := url.Parse(v); err == nil {
					v = r.url(u)
				} else {
					v = "REDACTED, malformed"
				}
			case name == "Link":
				v = linkTarget().ReplaceAllStringFunc(v, func(t string) string {
					u, err := url.Parse(t[1 : len(t)-1])
					if err != nil {
						return "<REDACTED>"
					}
					return "<" + r.url(u) + ">"
				})
			}
			out[name] = append(out[name], truncate(r.text(v), 4096))
		}
	}
	return out
}

var linkTarget = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`<[^>]*>`) })

// quote returns s as one line of printable text in quotes, capped.
func quote(s string) string { return fmt.Sprintf("%q", truncate(s, 300)) }

// printable returns s as one line of printable text, without quotes around it.
func printable(s string) string {
	var b strings.Builder
	for _, c := range truncate(s, 1000) {
		if c != utf8.RuneError && strconv.IsPrint(c) {
			b.WriteRune(c)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(c), "'"))
		}
	}
	return b.String()
}

// quoteCode returns an error code, which is a plain word in a well-made answer.
func quoteCode(s string) string {
	for _, c := range s {
		if c != '_' && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

// truncate cuts s behind at most n bytes, not within a character.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
