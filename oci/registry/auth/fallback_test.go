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
		ref, err := registry.ParseHost(host)
		if err != nil {
			t.Fatal(err)
		}
		c, err := registry.New(ref, registry.Options{
			PlainHTTP: true, Username: user, Password: user,
			Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()

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
