package wire

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

// A Redactor takes the secrets out of everything that leaves the package as text: traces, errors,
// notices, curl lines. It knows the places where secrets stand, and the secrets themselves, because
// a registry may repeat one anywhere. Its zero value knows no secret. It is safe for concurrent use.
type Redactor struct {
	mu      sync.RWMutex
	secrets []string
}

// Hide makes Text and the other methods take out the secrets from now on, in their usual spellings:
// plain, escaped for a URL, in base64, within JSON and within a Go string. Words of under four bytes
// are not hidden.
func (r *Redactor) Hide(secrets ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range secrets {
		if len(s) < 4 {
			continue // it would black out ordinary text
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
	return regexp.MustCompile(`(?i)"([a-z_-]*(?:token|password|secret)|auth)"\s*:\s*"[^"]*"?`)
})

// Text returns s without known secrets and without the values of members of JSON that hold
// some by their name.
func (r *Redactor) Text(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, secret := range r.secrets {
		s = strings.ReplaceAll(s, secret, "REDACTED")
	}
	s = userInfo().ReplaceAllString(s, "://REDACTED@")
	return secretJSON().ReplaceAllString(s, `"$1":"REDACTED"`)
}

var userInfo = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`://[^/@\s"]*@`) })

// plainQuery are the keys whose values are not secrets. The state of an upload and the
// signature of a storage URL stand under many names, so everything else is taken out.
var plainQuery = []string{"digest", "digest-algorithm", "mount", "from", "n", "last", "artifactType", "tag", "ns", "service", "scope", "account", "client_id"}

// URL returns u as plain ASCII, capped, without user information, and without the values of its query
// that may be secrets. A short mark stands for each of those, by which two can be told apart. A nil
// u gives "".
func (r *Redactor) URL(u *url.URL) string {
	if u == nil {
		return ""
	}
	v := *u
	if v.User != nil {
		v.User = url.User("REDACTED")
	}
	v.RawQuery, v.Fragment, v.RawFragment = redactQuery(v.RawQuery), "", ""
	return Truncate(escapeBytes(r.Text(v.String())), 2048)
}

// escapeBytes escapes what is not ASCII in a URL. Package net/url leaves a query as it came.
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

// redactQuery replaces the values that may be secrets. The rest stays byte for byte, in its order.
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

// SecretValues returns the values of a query that [Redactor.URL] takes out, unescaped.
func SecretValues(u *url.URL) []string {
	var list []string
	for name, values := range u.Query() {
		if !slices.Contains(plainQuery, name) {
			list = append(list, values...)
		}
	}
	return list
}

// mark returns three bytes of the hash of a secret: enough to tell two secrets apart, too little to
// find a random one by trying.
func mark(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:3])
}

var secretHeaders = []string{"Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"}

// secretWords are what the names of other headers with a secret have within them, as X-Auth-Token has.
var secretWords = []string{"auth", "token", "secret", "password", "credential", "signature", "api-key", "apikey", "access-key"}

// Header returns a copy of h for a trace, without secrets and with capped values. Of credentials only
// the scheme, the length in bytes and, of tokens, a mark are left.
func (r *Redactor) Header(h http.Header) map[string][]string {
	out := map[string][]string{}
	for name, values := range h {
		for _, v := range values {
			// These headers hold credentials, or addresses that do: the Location of an upload
			// is worth one.
			switch {
			case IsSecretHeader(name):
				// Only these begin with a scheme. The first word of any other is secret too.
				scheme, rest, _ := strings.Cut(v, " ")
				if rest == "" || name != "Authorization" && name != "Proxy-Authorization" {
					scheme, rest = "", v
				}
				v = strings.TrimSpace(fmt.Sprintf("%s REDACTED (%d bytes%s)", scheme, len(rest), tokenMark(scheme, rest)))
			case name == "Location" || name == "Content-Location" || name == "Referer":
				if u, err := url.Parse(v); err == nil {
					v = r.URL(u)
				} else {
					v = "REDACTED, malformed"
				}
			case strings.HasSuffix(name, "-Authenticate"):
				v = realmQuery().ReplaceAllStringFunc(v, func(t string) string {
					before, query, _ := strings.Cut(t, "?")
					return before + "?" + redactQuery(query)
				})
			case name == "Link":
				v = linkTarget().ReplaceAllStringFunc(v, func(t string) string {
					u, err := url.Parse(t[1 : len(t)-1])
					if err != nil {
						return "<REDACTED>"
					}
					return "<" + r.URL(u) + ">"
				})
			}

			out[name] = append(out[name], Truncate(r.Text(v), 4096))
		}
	}

	return out
}

// IsSecretHeader reports whether the value of a header, by its canonical name, is a secret: that of those
// that are known, and of any whose name says so. A challenge asks for a secret and holds none.
func IsSecretHeader(name string) bool {
	if slices.Contains(secretHeaders, name) {
		return true
	}
	name = strings.ToLower(name)
	return !strings.HasSuffix(name, "-authenticate") && slices.ContainsFunc(secretWords, func(word string) bool {
		return strings.Contains(name, word)
	})
}

// tokenMark returns the mark of a token. A password has none: it may be weak, and by the mark and the
// length whoever has a list of passwords could find it.
func tokenMark(scheme, secret string) string {
	if strings.EqualFold(scheme, "Basic") {
		return ""
	}
	return ", " + mark(secret)
}

// realmQuery is an address in a challenge, from its scheme to the end of its query.
var realmQuery = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`://[^\s"?]*\?[^\s",]*`) })

var linkTarget = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`<[^>]*>`) })

// Quote returns s as one line of printable text in quotes, capped.
func Quote(s string) string { return fmt.Sprintf("%q", Truncate(s, 300)) }

// printable returns s as one line of printable text, without quotes around it.
func printable(s string) string {
	var b strings.Builder
	for _, c := range Truncate(s, 1000) {
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
			return Quote(s)
		}
	}
	if s == "" {
		return `""`
	}
	return s
}

// Truncate returns s if it has at most n bytes, else at most n bytes of it with "…" behind. It does
// not cut within a character.
func Truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}
