package auth_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci/registry"
	"ocikit/oci/registry/serve/servetest"
)

// A registry that offers Bearer and Basic refuses a token once, while its token server is out of
// order. When that is over, the next token serves the requests that follow: only the first of them may
// go out with a password that is of no use, and none without anything.
func TestBearerAfterBasic(t *testing.T) {
	for user, want := range map[string]int{"": 0, "me": 1} {
		var good string
		refused, issued, broken := 0, 0, false
		host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token" && broken:
				w.WriteHeader(http.StatusForbidden)
			case r.URL.Path == "/token":
				issued++
				good = fmt.Sprintf("token-%d", issued)
				fmt.Fprintf(w, `{"token":%q,"expires_in":300}`, good)
			case good == "" || strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ") != good:
				refused++
				w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="r", Basic realm="r"`, r.Host))
				w.WriteHeader(http.StatusUnauthorized)
			default:
				w.Header().Set("Content-Length", "1")
			}
		}))
		c := client(t, host, registry.Options{Username: user, Password: user})

		head := func(want bool) {
			t.Helper()
			_, err := c.HeadBlob(t.Context(), "app", digest.FromBytes(nil))
			if (err == nil) != want {
				t.Errorf("user %q: %v", user, err)
			}
		}
		head(true)
		good, broken = "", true
		head(false)

		broken, refused = false, 0
		head(true)
		head(true)
		if refused != want || issued != 2 {
			t.Errorf("user %q: %d requests without the token, want %d; %d tokens", user, refused, want, issued)
		}
	}
}

// client returns a client of the registry at host, without a wait between attempts.
func client(t *testing.T, host string, o registry.Options) *registry.Client {
	t.Helper()
	ref, err := registry.ParseHost(host)
	if err != nil {
		t.Fatal(err)
	}
	o.PlainHTTP = true
	o.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	c, err := registry.New(ref, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Where a token server has no OAuth2, nobody's token is asked for in the other way.
func TestIdentityTokenWithoutOAuth(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented} {
		host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			switch {
			case r.URL.Path == "/token" && r.Method == http.MethodPost:
				w.WriteHeader(status)
			case r.URL.Path == "/token":
				if r.Header.Get("Authorization") != "" || strings.Contains(r.URL.RawQuery, "identity-1") {
					t.Error("the identity token went where it has no place")
				}
				fmt.Fprint(w, `{"token":"token-1"}`)
			case r.Header.Get("Authorization") != "Bearer token-1":
				w.Header().Set("Www-Authenticate", `Bearer realm="/token",service="r"`)
				w.WriteHeader(http.StatusUnauthorized)
			default:
				w.Header().Set("Content-Length", "1")
			}
		}))
		if _, err := client(t, host, registry.Options{IdentityToken: "identity-1"}).HeadBlob(t.Context(), "app", digest.FromBytes(nil)); err != nil {
			t.Errorf("status %d: %v", status, err)
		}
	}
}

// A token server that hands out a new identity token has dropped the old one. With a password it is
// the password that counts.
func TestIdentityTokenRotates(t *testing.T) {
	for _, o := range []registry.Options{{IdentityToken: "identity-0"}, {Username: "me", Password: "identity-0"}} {
		issued, used := 0, true
		host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, password, _ := r.BasicAuth()
			switch {
			case r.URL.Path == "/token" && password != o.Password, r.URL.Path == "/token" && o.Password == "" && r.FormValue("refresh_token") != fmt.Sprintf("identity-%d", issued):
				w.WriteHeader(http.StatusUnauthorized)
			case r.URL.Path == "/token":
				issued++
				used = false
				fmt.Fprintf(w, `{"access_token":"token-%d","refresh_token":"identity-%d"}`, issued, issued)
			case used || r.Header.Get("Authorization") != fmt.Sprintf("Bearer token-%d", issued):
				w.Header().Set("Www-Authenticate", `Bearer realm="/token",service="r"`)
				w.WriteHeader(http.StatusUnauthorized)
			default:
				used = true
				w.Header().Set("Content-Length", "1")
			}
		}))
		c := client(t, host, o)
		for range 3 {
			if _, err := c.HeadBlob(t.Context(), "app", digest.FromBytes(nil)); err != nil {
				t.Errorf("after %d tokens, user %q: %v", issued, o.Username, err)
			}
		}
	}
}

// Where tokens were refused before their time, a body that can be sent only once gets a token of its own.
func TestTokenOfItsOwn(t *testing.T) {
	issued, revoked := 0, 0
	host := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var number int
		fmt.Sscanf(r.Header.Get("Authorization"), "Bearer token-%d", &number)
		switch {
		case r.URL.Path == "/token":
			issued++
			fmt.Fprintf(w, `{"token":"token-%d","expires_in":300}`, issued)
		case number <= revoked:
			w.Header().Set("Www-Authenticate", `Bearer realm="/token",service="r"`)
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == http.MethodPatch:
			w.Header().Set("Location", r.URL.Path)
			w.WriteHeader(http.StatusAccepted)
		default:
			w.Header().Set("Content-Length", "1")
		}
	}))
	c := client(t, host, registry.Options{})
	for _, step := range []struct {
		revoke, patch bool
		want          int // tokens, then
	}{{false, false, 1}, {false, true, 2}, {false, true, 2}, {true, false, 3}, {true, false, 4}, {false, true, 5}, {false, true, 6}, {false, false, 6}} {
		if step.revoke {
			revoked = issued
		}
		var err error
		if step.patch {
			up := registry.Upload{Repo: "app", Location: "http://" + host + "/v2/app/blobs/uploads/1"}
			err = c.PatchUpload(t.Context(), &up, registry.Body{Reader: strings.NewReader("x"), Size: 1})
		} else {
			_, err = c.HeadBlob(t.Context(), "app", digest.FromBytes(nil))
		}
		if err != nil || issued != step.want {
			t.Errorf("%+v: %d tokens, %v", step, issued, err)
		}
	}
}
