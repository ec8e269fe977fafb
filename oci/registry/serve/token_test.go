package serve

import (
	"encoding/json"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"ocikit/oci"
	"ocikit/oci/registry/serve/access"
)

// token asks the token server for one with the scopes.
func (t *testServer) token(authorization string, scopes ...string) string {
	t.Helper()
	a := t.want(200, "GET", "/token?"+url.Values{"scope": scopes, "service": {"ocikit"}}.Encode(), nil, "Authorization", authorization)
	var doc struct {
		Token       string `json:"token"`
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.Unmarshal(a.body, &doc); err != nil || doc.Token == "" || doc.Token != doc.AccessToken || doc.ExpiresIn != 300 || a.Header.Get("Cache-Control") != "no-store" {
		t.Fatalf("token: %v, %v %s", err, a.Header, a.body)
	}
	return "Bearer " + doc.Token
}

func TestTokenAuth(t *testing.T) {
	auth, err := access.NewAuth(strings.NewReader(quickLine(t, "alice", "wonder")), strings.NewReader("0123456789abcdef-token\n"))
	if err != nil {
		t.Fatal(err)
	}
	var later atomic.Int64
	now := func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	s := start(t, Options{Auth: auth, TokenAuth: true, Now: now})
	me := basic("alice", "wonder")
	realm := `Bearer realm="` + s.url + `/token",service="ocikit"`
	pull := s.token(me, "repository:r:pull")
	push := s.token(me, "repository:r:pull,push")
	twice := s.token(me, "repository:r:pull", "repository:r:pull,push") // containerd's
	two := s.token(me, "repository:r:pull,push repository:from:pull")
	del := s.token(me, "repository:r:delete", "registry:catalog:*")
	none := s.token(me, "repository:R:pull", "repository:r:potato", "nonsense", "repository:r/../x:pull")
	upload, mount := "/v2/r/blobs/uploads/", "/v2/r/blobs/uploads/?from=from&mount="+sum(nil)
	for _, c := range []struct {
		method, path, token string
		status              int
		challenge           string // behind the realm
	}{
		{"GET", "/v2/", "", 401, ``},
		{"GET", "/v2/", me, 401, ``},
		{"GET", "/v2/", none, 200, ``},
		{"GET", "/v2/", "bearer 0123456789abcdef-token", 200, ``},
		{"GET", "/v2/", pull + "x", 401, `,error="invalid_token"`},
		{"GET", "/v2/", "Bearer e30.e30.", 401, `,error="invalid_token"`},
		{"GET", "/v2/", "Bearer ..", 401, `,error="invalid_token"`},
		{"GET", "/v2/R/tags/list", "", 401, ``},
		{"GET", "/v2/R/tags/list", pull, 400, ``},
		{"GET", "/v2/r/tags/list", pull, 404, ``},
		{"GET", "/v2/r/tags/list", none, 401, `,scope="repository:r:pull",error="insufficient_scope"`},
		{"GET", "/v2/other/tags/list", pull, 401, `,scope="repository:other:pull",error="insufficient_scope"`},
		{"POST", upload, "", 401, `,scope="repository:r:pull,push"`},
		{"POST", upload, pull, 401, `,scope="repository:r:pull,push",error="insufficient_scope"`},
		{"POST", upload, push, 202, ``},
		{"POST", upload, twice, 202, ``},
		{"POST", mount, push, 401, `,scope="repository:r:pull,push repository:from:pull",error="insufficient_scope"`},
		{"POST", mount, two, 202, ``},
		{"PUT", "/v2/r/manifests/t", pull, 401, `,scope="repository:r:pull,push",error="insufficient_scope"`},
		{"PUT", "/v2/r/manifests/t", push, 400, ``},
		{"DELETE", "/v2/r/manifests/t", push, 401, `,scope="repository:r:delete",error="insufficient_scope"`},
		{"DELETE", "/v2/r/manifests/t", del, 404, ``},
		{"GET", "/v2/_catalog", push, 401, `,scope="registry:catalog:*",error="insufficient_scope"`},
		{"GET", "/v2/_catalog", del, 200, ``},
		{"POST", "/token", me, 405, ``},
	} {
		a := s.do(c.method, c.path, nil, "Authorization", c.token)
		if a.StatusCode != c.status {
			t.Errorf("%s %s = %d %s, want %d", c.method, c.path, a.StatusCode, a.body, c.status)
		}
		if got := a.Header.Get("WWW-Authenticate"); c.status == 401 && got != realm+c.challenge {
			t.Errorf("%s %s: challenge %s, want %s%s", c.method, c.path, got, realm, c.challenge)
		}
	}
	for _, path := range []string{"/token", "/"} { // where a password is wanted
		a := s.want(401, "GET", path, nil, "Authorization", push)
		if !strings.HasPrefix(a.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("%s: challenge %q", path, a.Header.Get("WWW-Authenticate"))
		}
	}
	s.want(200, "GET", "/", nil, "Authorization", me)
	s.want(400, "GET", "/token?scope="+strings.Repeat("repository:r:pull+", 51), nil, "Authorization", me)
	later.Store(int64(5*time.Minute + time.Second))
	s.want(401, "GET", "/v2/", nil, "Authorization", push)
}

// Without users everybody gets a token; one of another server is worth nothing, and a
// registry that is read-only gives none to write with.
func TestTokensForAll(t *testing.T) {
	s, other := start(t, Options{TokenAuth: true}), start(t, Options{TokenAuth: true, ReadOnly: true})
	push := s.token("", "repository:r:pull,push")
	s.want(202, "POST", "/v2/r/blobs/uploads/", nil, "Authorization", push)
	other.want(401, "GET", "/v2/", nil, "Authorization", push)
	read := other.token("", "repository:r:pull,push")
	other.want(404, "GET", "/v2/r/tags/list", nil, "Authorization", read)
	a := other.want(401, "PUT", "/v2/r/manifests/t", "{}", "Authorization", read, "Content-Type", oci.MediaTypeManifest)
	if !strings.Contains(a.Header.Get("WWW-Authenticate"), "insufficient_scope") {
		t.Errorf("challenge %q", a.Header.Get("WWW-Authenticate"))
	}
	s.want(200, "GET", "/", nil)
	plain := start(t, Options{})
	plain.want(404, "GET", "/token", nil)
}

// A mount that does not say from where takes nothing from a repository that the token may not
// pull.
func TestMountFromAnywhereNeedsPull(t *testing.T) {
	s := start(t, Options{TokenAuth: true})
	data, d := []byte("secret"), sum([]byte("secret"))
	private := s.token("", "repository:private:pull,push")
	s.want(201, "POST", "/v2/private/blobs/uploads/?digest="+d, data, "Authorization", private)
	mount := "/v2/r/blobs/uploads/?mount=" + d
	s.want(202, "POST", mount, nil, "Authorization", s.token("", "repository:r:pull,push"))
	s.want(202, "POST", mount, nil, "Authorization", s.token("", "repository:r:pull,push repository:private:push"))
	s.want(201, "POST", mount, nil, "Authorization", s.token("", "repository:r:pull,push repository:private:pull"))
	s.want(201, "POST", mount, nil, "Authorization", s.token("", "repository:r:pull,push")) // it has it by now
}
