package fault

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"ocikit/oci/registry/serve/exchange"
)

// challenged makes a fault that rewrites the challenges of 401s: change gets the header
// WWW-Authenticate as it would be.
func challenged(name, short string, change func(c *call, text string) []string) *fault {
	return &fault{Fault: Fault{name, short}, gate: true, tokens: true, applies: isAny,
		commit: func(c *call, next func() error) error {
			c.w.Edit(func(status int, h http.Header) int {
				if text := h.Get("WWW-Authenticate"); status == http.StatusUnauthorized && strings.HasPrefix(text, "Bearer ") {
					c.note()
					h["Www-Authenticate"] = change(c, text)
				}
				return status
			})
			return next()
		}}
}

// replaced makes a fault that replaces a part of the challenge.
func replaced(name, short, old, new string) *fault {
	return challenged(name, short, func(_ *call, text string) []string {
		return []string{strings.Replace(text, old, new, 1)}
	})
}

const faultBasic = `Basic realm="ocikit"`

func challengeFaults() []*fault {
	return []*fault{
		replaced("challenge-lower", "a challenge names its scheme in lower case", "Bearer ", "bearer "),
		challenged("challenge-unquoted", "a challenge has its values without quotes", func(_ *call, text string) []string {
			return []string{strings.ReplaceAll(text, `"`, "")}
		}),
		challenged("challenge-spaces", "a challenge has blanks around commas and equals signs", func(_ *call, text string) []string {
			return []string{strings.NewReplacer(`="`, ` = "`, `",`, `" , `).Replace(text)}
		}),
		challenged("challenge-two-headers", "a challenge for Basic comes in a header of its own, though only tokens are taken",
			func(_ *call, text string) []string { return []string{faultBasic, text} }),
		challenged("challenge-two-in-one", "a challenge for Basic comes first in the same header, though only tokens are taken",
			func(_ *call, text string) []string { return []string{faultBasic + ", " + text} }),
		challenged("challenge-unknown-first", "challenges of schemes that nobody knows come first in the same header",
			func(_ *call, text string) []string { return []string{`Potato abc==, Turnip a="b, c", ` + text} }),
		replaced("challenge-escaped-quote", "a challenge has escaped quotes and a comma in its first value",
			"Bearer ", `Bearer error_description="a \"token\", please, realm=\"no\"",`),
		challenged("challenge-empty-scope", "a challenge has an empty scope", func(_ *call, text string) []string {
			before, _, _ := strings.Cut(text, `,scope="`)
			return []string{before + `,scope=""`}
		}),
		challenged("challenge-missing", "a 401 has no challenge, but for that of /v2/", func(c *call, text string) []string {
			if c.rt.Kind == exchange.Ping {
				return []string{text}
			}
			return nil
		}),
		replaced("challenge-no-realm", "a challenge does not say where to get a token", "realm=", "kingdom="),
	}
}

// realm makes a fault that names another place to get a token; path is where the token server
// is.
func realm(name, short string, where func(c *call, path string) string) *fault {
	return challenged(name, short, func(c *call, text string) []string {
		before, rest, ok := strings.Cut(text, `realm="`)
		real, after, quoted := strings.Cut(rest, `"`)
		u, err := url.Parse(real)
		if !ok || !quoted || err != nil {
			return []string{text}
		}
		return []string{before + `realm="` + where(c, u.EscapedPath()) + `"` + after}
	})
}

func realmFaults() []*fault {
	return []*fault{
		realm("realm-relative", "the address of the token server is relative", func(_ *call, path string) string { return path }),
		realm("realm-foreign", "the token server is on another host (localhost in place of 127.0.0.1)",
			func(c *call, path string) string { return exchange.Scheme(c.r) + "://" + otherName(c.r.Host) + path }),
		realm("realm-metadata", "the token server is at 169.254.169.254, where clouds keep secrets",
			func(*call, string) string { return "http://169.254.169.254/latest/meta-data" }),
		realm("realm-http", "the token server is plain http, also if the registry is not",
			func(c *call, path string) string { return "http://" + c.r.Host + path }),
		realm("realm-userinfo", "the address of the token server holds a password",
			func(c *call, path string) string { return exchange.Scheme(c.r) + "://user:secret@" + c.r.Host + path }),
		realm("realm-file", "the address of the token server is that of a file", func(*call, string) string { return "file:///etc/passwd" }),
	}
}

func isToken(c *call) bool { return c.rt.Kind == exchange.Token }

// tokenAnswered makes a fault that changes the answer of the token server.
func tokenAnswered(name, short string, change func(answer map[string]any)) *fault {
	return &fault{Fault: Fault{name, short}, applies: isToken, commit: func(c *call, next func() error) error {
		return c.hold(next, func(status int) bool { return status == http.StatusOK }, func(w http.ResponseWriter, a *held) {
			var doc map[string]any
			body := a.body.Bytes()
			if json.Unmarshal(body, &doc) == nil {
				c.note()
				change(doc)
				body, _ = json.Marshal(doc) // it was JSON before
			}
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.WriteHeader(a.status)
			w.Write(body)
		})
	}}
}

// without makes a change that takes fields away.
func without(keys ...string) func(map[string]any) {
	return func(answer map[string]any) {
		for _, key := range keys {
			delete(answer, key)
		}
	}
}

func expires(in any) func(map[string]any) {
	return func(answer map[string]any) { answer["expires_in"] = in }
}

func tokenFaults() []*fault {
	list := slices.Concat(tokenAnswerFaults(), []*fault{
		acts("token-html", "the token server answers with a page of HTML, and 200", isToken,
			func(c *call, _ func() error) error { return sendHTML(c.w, http.StatusOK, "Sign in") }),
		acts("token-redirect", "the token server redirects to another host (localhost in place of 127.0.0.1)",
			func(c *call) bool { return isToken(c) && !strings.HasPrefix(c.r.Host, "localhost") },
			func(c *call, _ func() error) error {
				c.w.Header().Set("Location", exchange.Scheme(c.r)+"://"+otherName(c.r.Host)+c.r.URL.RequestURI())
				c.w.WriteHeader(http.StatusTemporaryRedirect)
				return nil
			}),
		acts("token-stall", "the token server does not answer the first request for a minute",
			func(c *call) bool { return isToken(c) && c.first(1, "") }, stall),
		refuse("token-503", "the token server answers the first two requests with 503",
			func(c *call) bool { return isToken(c) && c.first(2, "") },
			exchange.Fail(http.StatusServiceUnavailable, exchange.CodeUnknown, "try again later")),
		{Fault: Fault{"token-short", "a token is good for ten requests"}, commit: challenge, applies: func(c *call) bool {
			token, ok := exchange.Bearer(c.r)
			return ok && !c.first(10, token)
		}},
	})

	for _, f := range list {
		f.tokens = true
	}
	return list
}

func tokenAnswerFaults() []*fault {
	return []*fault{
		tokenAnswered("token-access-only", "the token server calls the token access_token alone", without("token")),
		tokenAnswered("token-only", "the token server calls the token token alone", without("access_token")),
		tokenAnswered("token-absent", "the token server answers without a token", without("token", "access_token")),
		tokenAnswered("token-no-expiry", "the token server does not say how long a token is good", without("expires_in", "issued_at")),
		tokenAnswered("token-expires-zero", "a token is said to be good for 0 seconds", expires(0)),
		tokenAnswered("token-expires-negative", "a token is said to be good for -1 seconds", expires(-1)),
		tokenAnswered("token-expires-far", "a token is said to be good for 300000000000 seconds, as if they were nanoseconds", expires(int64(300_000_000_000))),
		tokenAnswered("token-expires-text", "the seconds for which a token is good are written as text", expires("300")),
		tokenAnswered("token-huge", "the token server answers with 1 MiB of JSON", func(answer map[string]any) {
			answer["fill"] = strings.Repeat("x", 1<<20)
		}),
		tokenAnswered("token-hostile", "the token has a newline and another header in it", func(answer map[string]any) {
			answer["token"] = "x\r\nX-Injected: yes"
			answer["access_token"] = answer["token"]
		}),
	}
}

// challenge refuses a request as if it had no credentials, or expired ones.
func challenge(c *call, _ func() error) error {
	c.w.Header().Set("WWW-Authenticate", c.host.Challenge(c.r, *c.rt))
	return c.answer(http.StatusUnauthorized, exchange.CodeUnauthorized, "authentication required")
}

// needsLogin makes a fault that refuses requests without credentials, and takes any.
func needsLogin(name, short string, applies func(c *call) bool) *fault {
	return &fault{Fault: Fault{name, short}, commit: challenge,
		applies: func(c *call) bool { return applies(c) && c.r.Header.Get("Authorization") == "" }}
}

func authFaults() []*fault {
	return []*fault{
		needsLogin("post-401", "POST without credentials is refused with 401; any are taken", isPost),
		needsLogin("head-401", "HEAD of a blob without credentials is refused with 401; any are taken", isHeadBlob),
		{Fault: Fault{"patch-401", "the first PATCH of a session is refused with 401 before its body is read"},
			applies: func(c *call) bool { return isPatch(c) && c.first(1, c.rt.Ref) }, commit: challenge},
		{Fault: Fault{"put-401", "the first PUT of a session is refused with 401, as if a token had expired"},
			applies: func(c *call) bool { return isPut(c) && c.first(1, c.rt.Ref) }, commit: challenge},
	}
}

// sendHTML answers as a proxy does.
func sendHTML(w *exchange.Recorder, status int, title string) error {
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, err := io.WriteString(w, "<html><head><title>"+title+"</title></head><body><h1>"+title+"</h1><hr>proxy</body></html>\n")
	return err
}
