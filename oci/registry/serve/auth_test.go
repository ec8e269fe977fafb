package serve

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"ocikit/oci/registry/serve/access"
)

func basic(user, pass string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+pass))
}

// quickLine is a line of a password file that costs no time.
func quickLine(t *testing.T, user, pass string) string {
	t.Helper()
	hash, err := pbkdf2.Key(sha256.New, pass, []byte("salt"), 10, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(hash), "+", ".") // as passlib writes it
	return fmt.Sprintf("%s:$pbkdf2-sha256$10$%s$%s\n", user, base64.RawStdEncoding.EncodeToString([]byte("salt")), text)
}

func TestAuth(t *testing.T) {
	passwords := "# users\n\n" + quickLine(t, "alice", "wonder") + quickLine(t, "bob", "") + quickLine(t, "carol", "päss:word")
	a, err := access.NewAuth(strings.NewReader(passwords), strings.NewReader("0123456789abcdef-token\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Auth: a})
	for header, want := range map[string]int{
		"":                                   401,
		basic("alice", "wonder"):             200,
		basic("alice", "Wonder"):             401,
		basic("alice", ""):                   401,
		basic("bob", ""):                     200,
		basic("carol", "päss:word"):          200,
		basic("mallory", "wonder"):           401,
		basic("x", "0123456789abcdef-token"): 200,
		"Bearer 0123456789abcdef-token":      200,
		"bearer 0123456789abcdef-token":      200,
		"Bearer 0123456789abcdef-toke":       401,
		"Bearer ":                            401,
		"Basic !!!":                          401,
		"Digest x":                           401,
	} {
		for range 2 { // the second time from the cache
			for _, path := range []string{"/v2/", "/", "/-/events?x", "/-/app.js"} {
				if want == 200 && strings.Contains(path, "events") {
					continue // it would not end
				}
				got := s.do("GET", path, nil, "Authorization", header)
				if got.StatusCode != want {
					t.Errorf("%s with %q = %d, want %d", path, header, got.StatusCode, want)
				}
				if want == 401 && (got.code(t) != "UNAUTHORIZED" || !strings.HasPrefix(got.Header.Get("WWW-Authenticate"), `Basic realm="`)) {
					t.Errorf("%s: %v %s", path, got.Header, got.body)
				}
			}
		}
	}
}

// Lines that others make are read, and those that PasswordLine makes.
func TestPasswordLine(t *testing.T) {
	made, err := access.PasswordLine("made", "secret")
	if err != nil {
		t.Fatal(err)
	}
	passwords := "lib:$pbkdf2-sha256$1000$AAECAwQFBgcICQoLDA0ODw$T0Z5wUqa/rr8kWb7KeLsnYrEP6Go8Ns.sglAvd4sSjw\n" + made
	a, err := access.NewAuth(strings.NewReader(passwords), nil)
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, Options{Auth: a})
	s.want(200, "GET", "/v2/", nil, "Authorization", basic("lib", "pässword"))
	s.want(200, "GET", "/v2/", nil, "Authorization", basic("made", "secret"))
	s.want(401, "GET", "/v2/", nil, "Authorization", basic("made", "Secret"))
}

func TestBadAuthFiles(t *testing.T) {
	good := strings.TrimSpace(quickLine(t, "u", "secret"))
	for name, c := range map[string][2]string{
		"empty":           {"", ""},
		"no colon":        {"hush", ""},
		"no user":         {strings.TrimPrefix(good, "u"), ""},
		"plain password":  {"u:hush", ""},
		"bcrypt":          {"u:$2y$05$hushhushhushhushhush", ""},
		"another hash":    {strings.Replace(good, "pbkdf2-sha256", "pbkdf2-sha512", 1), ""},
		"text in front":   {strings.Replace(good, ":", ":x", 1), ""},
		"no rounds":       {strings.Replace(good, "$10$", "$0$", 1), ""},
		"rounds for ever": {strings.Replace(good, "$10$", "$99999999999$", 1), ""},
		"short hash":      {good[:len(good)-4], ""},
		"short token":     {"", "hush"},
		"two words":       {"", "hush hush hush hush hush"},
	} {
		if _, err := access.NewAuth(strings.NewReader(c[0]), strings.NewReader(c[1])); err == nil || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: error %v, want one that does not repeat the line", name, err)
		}
	}
	for _, user := range []string{"", "a:b", "a\nb", "#a", " a"} {
		if _, err := access.PasswordLine(user, "x"); err == nil {
			t.Errorf("PasswordLine(%q) succeeded", user)
		}
	}
}
