package registry_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/oci/registry"
	"ocikit/oci/registry/auth"
	"ocikit/oci/registry/serve/servetest"
)

func pemOf(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }

// F17, F22: one token request for many requests, whatever the challenge looks like.
func TestBearer(t *testing.T) {
	for _, challenge := range []string{
		"", `bearer realm="/token",service=s`, `Bearer realm="/token?x=1",scope=""`, `Negotiate, Bearer realm=/token`,
		`Basic realm="x", Bearer realm="/token",service="s"`, `Bearer realm="/token",scope="repository:user/image:pull"`,
	} {
		reg := servetest.NewQuirky(t)
		reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret, Challenge: challenge}
		image(reg, "app", "v1", []byte("layer"))
		r := newRig(t, servetest.Serve(t, reg), login)
		for range 3 {
			if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
				t.Errorf("challenge %q: %v", challenge, err)
			}
		}
		if n := reg.Auth.Issued(); n != 1 {
			t.Errorf("challenge %q: %d tokens, want 1", challenge, n)
		}
		if strings.Contains(r.said(), secret) || strings.Contains(r.said(), "planted-token") {
			t.Errorf("challenge %q: a secret was printed", challenge)
		}
	}
}

func TestBasic(t *testing.T) {
	for _, challenge := range []string{"", "basic realm=zot", `Basic realm="a", service="b", scope="c"`} {
		reg := servetest.NewQuirky(t)
		reg.Auth = &servetest.Auth{User: "me", Password: secret, Challenge: challenge}
		r := newRig(t, servetest.Serve(t, reg), login)
		if _, err := r.Ping(t.Context()); err != nil {
			t.Errorf("challenge %q: %v", challenge, err)
		}
		r = newRig(t, servetest.Serve(t, reg), func(o *registry.Options) { o.Username, o.Password = "me", "wrong-"+secret })
		if _, err := r.Ping(t.Context()); !errors.Is(err, registry.ErrDenied) {
			t.Errorf("wrong password: %v", err)
		}
		if n, _ := r.Stats(); n > 3 {
			t.Errorf("wrong password: %d requests", n)
		}
	}
}

// F20: answers of the token server.
func TestTokenAnswers(t *testing.T) {
	text := func(format string) func(http.ResponseWriter, *http.Request, string) {
		return func(w http.ResponseWriter, _ *http.Request, token string) {
			io.WriteString(w, strings.ReplaceAll(format, "$", token))
		}
	}
	for _, c := range []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request, string)
		ok     bool
	}{
		{"access_token", text(`{"access_token":"$"}`), true},
		{"both", text(`{"token":"other","access_token":"$"}`), true},
		{"expires 0", text(`{"token":"$","expires_in":0}`), true},
		{"expires -1", text(`{"token":"$","expires_in":-1}`), true},
		{"nanoseconds", text(`{"token":"$","expires_in":300000000000}`), true},
		{"1e300", text(`{"token":"$","expires_in":1e300}`), true},
		{"text", text(`{"token":"$","expires_in":"300"}`), true},
		{"null", text(`{"token":"$","expires_in":null,"issued_at":null}`), true},
		{"old issued_at", text(`{"token":"$","expires_in":300,"issued_at":"1999-01-01T00:00:00Z"}`), true},
		{"HTML", text(`<html>`), false},
		{"empty", text(``), false},
		{"no token", text(`{}`), false},
		{"line feed", text(`{"token":"a\nb"}`), false},
		{"1 MiB", text(`{"token":"` + strings.Repeat("x", 1<<20) + `"}`), false},
		{"300 MB", func(w http.ResponseWriter, r *http.Request, _ string) {
			buf := make([]byte, 1<<20)
			for range 300 {
				if _, err := w.Write(buf); err != nil {
					return
				}
			}
		}, false},
		{"redirect to another host", func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, "http://127.0.0.2:1/token", 307)
		}, false},
		{"redirect to itself", func(w http.ResponseWriter, r *http.Request, _ string) { http.Redirect(w, r, r.URL.String(), 307) }, false},
		{"500", func(w http.ResponseWriter, r *http.Request, _ string) { w.WriteHeader(500) }, false},
	} {
		reg := servetest.NewQuirky(t)
		reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret, Answer: c.answer}
		image(reg, "app", "v1", nil)
		r := newRig(t, servetest.Serve(t, reg), login)
		for range 2 {
			if _, err := r.HeadManifest(t.Context(), "app", "v1"); (err == nil) != c.ok {
				t.Errorf("%s: %v", c.name, err)
			}
		}
		if n := reg.Auth.Issued(); c.ok && n != 1 {
			t.Errorf("%s: %d tokens", c.name, n)
		}
		if strings.Contains(r.said(), secret) {
			t.Errorf("%s: a secret was printed", c.name)
		}
	}
}

func TestTokenIsRenewed(t *testing.T) {
	now := time.Now()
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret}
	image(reg, "app", "v1", nil)
	r := newRig(t, servetest.Serve(t, reg), login, func(o *registry.Options) { o.Now = func() time.Time { return now } })
	head := func() {
		t.Helper()
		if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
			t.Error(err)
		}
	}
	head()
	now = now.Add(299 * time.Second) // it says 300
	head()
	reg.Auth.Revoke()
	head()
	if n := reg.Auth.Issued(); n != 3 {
		t.Errorf("%d tokens, want 3: the first, one before the end, one after a 401", n)
	}
}

// A token that is good for a few requests, and many at once: whoever comes late must not fail
// because others have used up what was fetched for it.
func TestTokenOfFewRequests(t *testing.T) {
	for uses := 1; uses < 4; uses++ {
		reg := servetest.NewQuirky(t)
		reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret, Uses: uses}
		image(reg, "app", "v1", nil)
		r := newRig(t, servetest.Serve(t, reg), login)
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 8 {
					if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
						t.Errorf("token good for %d requests: %v", uses, err)
					}
				}
			})
		}
		all.Wait()
		if n := reg.Auth.Issued(); n > 64+64/uses {
			t.Errorf("token good for %d requests: %d tokens for 64", uses, n)
		}
	}
}

func TestIdentityToken(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret}
	image(reg, "app", "v1", nil)
	r := newRig(t, servetest.Serve(t, reg), func(o *registry.Options) { o.IdentityToken = secret })
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
		t.Error(err)
	}
	if strings.Contains(r.said(), secret) {
		t.Error("the identity token was printed")
	}
}

// F23
func TestMountScopeIsRefused(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret, Deny: "repository:base:"}
	r := newRig(t, servetest.Serve(t, reg), login)
	d := reg.PutBlob("base", []byte("x"))
	if _, _, err := r.Mount(t.Context(), "app", d, "base"); !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Mount() = %v", err)
	}
	if _, err := r.StartUpload(t.Context(), "app", ""); err != nil {
		t.Errorf("StartUpload() = %v", err)
	}
}

// F21: where a realm may be. Credentials stay with the registry's host.
func TestRealms(t *testing.T) {
	auth := &servetest.Auth{Bearer: true, User: "me", Password: secret}
	tokens := servetest.Serve(t, http.HandlerFunc(auth.Token)) // another port of the same host
	var leaked []string
	foreign := servetest.Serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a := r.Header.Get("Authorization"); a != "" {
			leaked = append(leaked, a)
		}
		w.WriteHeader(401)
	}))
	_, port, _ := strings.Cut(foreign, ":")
	for _, c := range []struct {
		realm string
		trust string
		ok    bool
		is    error
	}{
		{realm: "/token", ok: true},
		{realm: "http://" + tokens + "/token", ok: true},
		{realm: "http://localhost:" + port + "/token", is: registry.ErrDenied},
		{realm: "http://169.254.169.254/latest/meta-data", is: registry.ErrUnsafe},
		{realm: "http://[fe80::1]/token", is: registry.ErrUnsafe},
		{realm: "http://0.0.0.0:1/token", is: registry.ErrUnsafe},
		{realm: "http://me:pw@" + tokens + "/token", is: registry.ErrUnsafe},
		{realm: "ftp://" + tokens + "/token", is: registry.ErrUnsafe},
		{realm: "http://127.0.0.1:0x50/%zz"},
	} {
		reg := servetest.NewQuirky(t)
		auth.Realm, reg.Auth = c.realm, auth
		image(reg, "app", "v1", nil)
		r := newRig(t, servetest.Serve(t, reg), login, func(o *registry.Options) { o.Retry = 0 })
		_, err := r.HeadManifest(t.Context(), "app", "v1")
		if (err == nil) != c.ok || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("realm %s: %v", c.realm, err)
		}
		if text := r.said() + fmt.Sprint(err); strings.Contains(text, secret) || strings.Contains(text, "me:pw") {
			t.Errorf("realm %s: a secret was printed", c.realm)
		}
	}
	if len(leaked) > 0 {
		t.Errorf("credentials went to another host %d times", len(leaked))
	}
	reg := servetest.NewQuirky(t)
	auth.Realm, reg.Auth = "http://localhost:"+strings.Split(tokens, ":")[1]+"/token", auth
	image(reg, "app", "v1", nil)
	r := newRig(t, servetest.Serve(t, reg), login, func(o *registry.Options) { o.TrustRealms = []string{"localhost"} })
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
		t.Errorf("trusted realm: %v", err)
	}
}

// The token server that got the credentials once is the only one that gets them.
func TestRealmMayNotMove(t *testing.T) {
	auth := &servetest.Auth{Bearer: true, User: "me", Password: secret}
	_, port, _ := strings.Cut(servetest.Serve(t, http.HandlerFunc(auth.Token)), ":")
	reg := servetest.NewQuirky(t)
	reg.Auth = auth
	image(reg, "app", "v1", nil)
	r := newRig(t, servetest.Serve(t, reg), login, func(o *registry.Options) { o.TrustRealms = []string{"localhost"} })
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
		t.Fatal(err)
	}
	auth.Revoke()
	auth.Realm = "http://localhost:" + port + "/token"
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); !errors.Is(err, registry.ErrUnsafe) {
		t.Errorf("HeadManifest() with another token server = %v", err)
	}
}

func TestTokenExplains(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret}
	host := servetest.Serve(t, reg)
	file := filepath.Join(t.TempDir(), "auth.json")
	entry := base64.StdEncoding.EncodeToString([]byte("me:" + secret))
	os.WriteFile(file, fmt.Appendf(nil, `{"auths":{%q:{"auth":%q}}}`, host, entry), 0o600)
	r := newRig(t, host, func(o *registry.Options) { o.AuthFile = file })
	info, err := r.Token(t.Context(), "repository:app:pull,push")
	if err != nil || info.Scheme != "bearer" || info.Credential.File != file || info.Credential.Key != host || info.Credential.Username != "me" || info.Token == "" || !info.Trusted {
		t.Errorf("Token() = %+v, %v", info, err)
	}
	if text := fmt.Sprintf("%+v", info.Credential); strings.Contains(text, secret) || strings.Contains(text, entry) {
		t.Error("the explanation holds the secret")
	}
	reg.Auth = nil
	if info, err := newRig(t, host).Token(t.Context()); err != nil || info.Scheme != "none" {
		t.Errorf("open registry: Token() = %+v, %v", info, err)
	}
}

// Without a token server only the registry can say that credentials are wrong.
func TestTokenIsTried(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{User: "me", Password: secret}
	host := servetest.Serve(t, reg)
	if info, err := newRig(t, host, login).Token(t.Context()); err != nil || info.Scheme != "basic" || info.Token == "" {
		t.Errorf("Token() = %+v, %v", info, err)
	}
	for name, change := range map[string]func(*registry.Options){
		"password": func(o *registry.Options) { o.Username, o.Password = "me", "wrong-"+secret },
		"registry token": func(o *registry.Options) {
			o.Getenv = func(key string) string {
				return map[string]string{"OCIKIT_REGISTRY": host, "OCIKIT_TOKEN": secret}[key]
			}
		},
	} {
		info, err := newRig(t, host, change).Token(t.Context())
		if !errors.Is(err, registry.ErrDenied) || info.Credential.Source == "none" {
			t.Errorf("wrong %s: Token() = %+v, %v", name, info, err)
		}
	}
}

// A registry that is down has not said that it wants no credentials.
func TestTokenOfNobody(t *testing.T) {
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, servetest.Answer(503, ""), nil)))
	if info, err := r.Token(t.Context()); status(err) != 3 {
		t.Errorf("Token() = %+v, %v", info, err)
	}
}

// What a helper says on its standard error is shown, without the secret that it hands out.
func TestHelperSaysItsSecret(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("helpers are shell scripts")
	}
	for _, script := range []string{
		`echo "debug: got ` + secret + `" >&2; echo '{"Username":"me","Secret":"` + secret + `"}'`,
		`echo "debug: got ` + secret + `" >&2; echo ` + secret + `; exit 1`,
	} {
		home, bin := t.TempDir(), t.TempDir()
		reg := servetest.NewQuirky(t)
		reg.Auth = &servetest.Auth{User: "me", Password: secret}
		host := servetest.Serve(t, reg)
		os.WriteFile(filepath.Join(home, ".dockercfg"), nil, 0o600)
		os.Mkdir(filepath.Join(home, ".docker"), 0o700)
		os.WriteFile(filepath.Join(home, ".docker", "config.json"), fmt.Appendf(nil, `{"credHelpers":{%q:"test"}}`, host), 0o600)
		os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte("#!/bin/sh\ncat >/dev/null\n"+script+"\n"), 0o700)
		r := newRig(t, host, func(o *registry.Options) {
			o.Home = home
			o.Getenv = func(name string) string { return map[string]string{"PATH": bin + ":/usr/bin:/bin"}[name] }
		})
		r.Ping(t.Context())
		if said := r.said(); !strings.Contains(said, "debug: got REDACTED") || strings.Contains(said, secret) {
			t.Errorf("helper %s: %s", script, said)
		}
	}
}

// Rows "Credential files and helpers" of the bad inputs. The registry wants a password where one
// is expected to come or to fail, and remembers what it was sent.
func TestCredentialFiles(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("helpers are shell scripts")
	}
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	for _, c := range []struct {
		name   string
		config string // $H is the host
		helper string // a script
		want   string // user that arrives; "" is none
		fail   bool
		wait   time.Duration // for the helper, too; 0: longer than any machine takes
	}{
		{name: "inline", config: `{"auths":{"$H":{"auth":"` + b64("me:"+secret) + `"}}}`, want: "me"},
		{name: "with scheme", config: `{"auths":{"https://$H/v1/":{"auth":"` + b64("me:"+secret) + `"}}}`, want: "me"},
		{name: "user name and password", config: `{"auths":{"$H":{"username":"me","password":"` + secret + `"}}}`, want: "me"},
		{name: "another port", config: `{"auths":{"127.0.0.1:1":{"auth":"` + b64("me:"+secret) + `"},"127.0.0.1":{"auth":"` + b64("me:"+secret) + `"}}}`},
		{name: "longest path", config: `{"auths":{"$H":{"auth":"` + b64("host:x1234") + `"},"$H/app":{"auth":"` + b64("path:x1234") + `"},"$H/application":{"auth":"` + b64("other:x1234") + `"}}}`, want: "path"},
		{name: "malformed entry of another host", config: `{"auths":{"other.test":{"auth":"%%%"},"$H":{"auth":"` + b64("me:"+secret) + `"}}}`, want: "me"},
		{name: "helper", config: `{"credHelpers":{"$H":"test"}}`, helper: `echo '{"Username":"helped","Secret":"` + secret + `"}'`, want: "helped"},
		{name: "store", config: `{"credsStore":"test","auths":{"$H":{}}}`, helper: `echo '{"Username":"helped","Secret":"` + secret + `"}'`, want: "helped"},
		{name: "empty helper name", config: `{"credsStore":"test","credHelpers":{"$H":""}}`, helper: `echo never; exit 3`},
		{name: "not found", config: `{"credHelpers":{"$H":"test"}}`, helper: `echo credentials not found in native keychain; exit 1`},
		{name: "helper with a path", config: `{"credHelpers":{"$H":"../test"}}`, fail: true},
		{name: "shell characters", config: `{"credHelpers":{"$H":"test;touch x"}}`, fail: true},
		{name: "helper not in PATH", config: `{"credHelpers":{"$H":"absent"},"auths":{"other.test":{"auth":"` + b64("me:"+secret) + `"}}}`, fail: true},
		{name: "store of another machine", config: `{"credsStore":"absent"}`, fail: true},
		{name: "store of another machine, and inline", config: `{"credsStore":"absent","auths":{"$H":{"auth":"` + b64("me:"+secret) + `"}}}`, fail: true},
		{name: "helper not in PATH, and inline", config: `{"credHelpers":{"$H":"absent"},"auths":{"$H":{"auth":"` + b64("me:"+secret) + `"}}}`, fail: true},
		{name: "helper fails", config: `{"credHelpers":{"$H":"test"}}`, helper: `echo ` + secret + `; exit 1`, fail: true},
		{name: "helper prints no JSON", config: `{"credHelpers":{"$H":"test"}}`, helper: `echo ` + secret, fail: true},
		{name: "helper shouts", config: `{"credHelpers":{"$H":"test"}}`, helper: `head -c 100000 /dev/zero`, fail: true},
		{name: "helper sleeps", config: `{"credHelpers":{"$H":"test"}}`, helper: `sleep 60`, fail: true, wait: time.Second},
		{name: "not base64", config: `{"auths":{"$H":{"auth":"%%` + secret + `"}}}`, fail: true},
		{name: "no colon", config: `{"auths":{"$H":{"auth":"` + b64(secret) + `"}}}`, fail: true},
		{name: "line feed in the user name", config: `{"auths":{"$H":{"auth":"` + b64("a\r\nb:"+secret) + `"}}}`, fail: true},
		{name: "garbage behind", config: `{"auths":{}} x`, fail: true},
		{name: "twice", config: `{"auths":{"$H":{}},"auths":{}}`, fail: true},
		{name: "no file", config: ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			home, bin := t.TempDir(), t.TempDir()
			os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte("#!/bin/sh\ncat >/dev/null\n"+c.helper+"\n"), 0o700)

			// A program that is started just now could hold another's script open for writing, so all
			// scripts are there before the first of them runs.
			t.Parallel()
			var users []string
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				user, _, ok := r.BasicAuth()
				if !ok && (c.want != "" || c.fail) {
					w.Header().Set("Www-Authenticate", `Basic realm="x"`)
					w.WriteHeader(401)
				}
				users = append(users, user)
			})
			host := servetest.Serve(t, h)
			if c.config != "" {
				os.Mkdir(filepath.Join(home, ".docker"), 0o700)
				os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(strings.ReplaceAll(c.config, "$H", host)), 0o600)
			}
			r := &rig{}
			ref, _ := registry.ParseReference(host + "/app/x")
			var err error
			r.Client, err = registry.New(ref, registry.Options{
				PlainHTTP: true, Home: home, Timeout: c.wait,
				Getenv: func(name string) string { return map[string]string{"PATH": ".:" + bin + ":/usr/bin:/bin"}[name] },
			})
			if err != nil {
				t.Fatal(err)
			}
			_, err = r.Ping(t.Context())
			if (err != nil) != c.fail || c.fail && !errors.Is(err, registry.ErrDenied) {
				t.Errorf("Ping() = %v", err)
			}
			if strings.Contains(fmt.Sprint(err), secret) {
				t.Errorf("the error holds the secret: %v", err)
			}
			if got := strings.Join(users, ""); got != c.want {
				t.Errorf("the registry saw user %q, want %q", got, c.want)
			}
		})
	}
}

// Protocol of the sources: where credentials may stand, and which of several count.
func TestCredentialSources(t *testing.T) {
	entry := func(key, user string) string {
		return fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, key, base64.StdEncoding.EncodeToString([]byte(user+":"+secret)))
	}
	for name, c := range map[string]struct {
		env   map[string]string // $D is a directory, $H the host
		files map[string]string // below $D; file: "KEY USER"
		want  string
	}{
		"none":                     {nil, nil, ""},
		"docker":                   {nil, map[string]string{"home/.docker/config.json": "$H docker"}, "docker"},
		"DOCKER_CONFIG":            {map[string]string{"DOCKER_CONFIG": "$D/dc"}, map[string]string{"dc/config.json": "$H dc", "home/.docker/config.json": "$H docker"}, "dc"},
		"DOCKER_AUTH_CONFIG":       {map[string]string{"DOCKER_AUTH_CONFIG": "$J"}, map[string]string{"home/.docker/config.json": "$H docker"}, "variable"},
		"REGISTRY_AUTH_FILE alone": {map[string]string{"REGISTRY_AUTH_FILE": "$D/raf"}, map[string]string{"raf": "other.test raf", "home/.docker/config.json": "$H docker"}, ""},
		"REGISTRY_AUTH_FILE":       {map[string]string{"REGISTRY_AUTH_FILE": "$D/raf", "DOCKER_AUTH_CONFIG": "$J"}, map[string]string{"raf": "$H raf"}, "raf"},
		"podman, run time":         {map[string]string{"XDG_RUNTIME_DIR": "$D/run"}, map[string]string{"run/containers/auth.json": "$H run"}, "run"},
		"podman, config":           {map[string]string{"XDG_CONFIG_HOME": "$D/cfg"}, map[string]string{"cfg/containers/auth.json": "$H cfg"}, "cfg"},
		"podman, home":             {nil, map[string]string{"home/.config/containers/auth.json": "$H home"}, "home"},
		"docker before podman":     {map[string]string{"XDG_RUNTIME_DIR": "$D/run"}, map[string]string{"run/containers/auth.json": "$H run", "home/.docker/config.json": "$H docker"}, "docker"},
		"a longer key wins":        {map[string]string{"XDG_RUNTIME_DIR": "$D/run"}, map[string]string{"run/containers/auth.json": "$H/app run", "home/.docker/config.json": "$H docker"}, "run"},
		"part of a component":      {nil, map[string]string{"home/.docker/config.json": "$H/ap docker"}, ""},
		"dockercfg":                {nil, map[string]string{"home/.dockercfg": "$H old"}, "old"},
		"OCIKIT before files":      {map[string]string{"OCIKIT_REGISTRY": "$H", "OCIKIT_USERNAME": "env", "OCIKIT_PASSWORD": secret}, map[string]string{"home/.docker/config.json": "$H docker"}, "env"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reg := servetest.NewQuirky(t)
			reg.Auth = &servetest.Auth{User: "nobody", Password: "no"}
			host := servetest.Serve(t, reg)
			dir := t.TempDir()
			for file, text := range c.files {
				key, user, _ := strings.Cut(strings.ReplaceAll(text, "$H", host), " ")
				data := entry(key, user)
				if strings.HasSuffix(file, ".dockercfg") {
					data = strings.TrimSuffix(strings.TrimPrefix(data, `{"auths":`), "}")
				}
				os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o700)
				os.WriteFile(filepath.Join(dir, file), []byte(data), 0o600)
			}
			expand := strings.NewReplacer("$D", dir, "$H", host, "$J", entry(host, "variable"))
			ref, _ := registry.ParseReference(host + "/app/x")
			r, err := registry.New(ref, registry.Options{
				PlainHTTP: true, Home: filepath.Join(dir, "home"),
				Getenv: func(name string) string { return expand.Replace(c.env[name]) },
			})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			info, err := r.Token(t.Context())
			if got := info.Credential.Username; got != c.want {
				t.Errorf("credentials of %q from %+v, want %q; %v", got, info.Credential, c.want, err)
			}
		})
	}
}

func TestEnvironment(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{User: "me", Password: secret}
	host := servetest.Serve(t, reg)
	for name, want := range map[string]bool{host: true, "other.test": false, "": false} {
		r := newRig(t, host, func(o *registry.Options) {
			o.Getenv = func(key string) string {
				return map[string]string{"OCIKIT_USERNAME": "me", "OCIKIT_PASSWORD": secret, "OCIKIT_REGISTRY": name}[key]
			}
		})
		if _, err := r.Ping(t.Context()); (err == nil) != want {
			t.Errorf("OCIKIT_REGISTRY=%s: %v", name, err)
		}
	}
}

// A registry that repeats the password everywhere it can.
func TestSecretsAreNotRepeated(t *testing.T) {
	echo := func(w http.ResponseWriter, r *http.Request) {
		a := r.Header.Get("Authorization")
		if a == "" {
			w.Header().Set("Www-Authenticate", `Basic realm="x"`)
			w.WriteHeader(401)
			return
		}
		_, password, _ := r.BasicAuth()
		w.Header().Set("Warning", fmt.Sprintf("299 - %q", "you sent "+a+" "+password))
		w.Header().Set("X-Request-Id", password)
		w.Header().Set("Server", password)
		w.Header().Set("Location", "/x?state="+password)
		w.Header().Set("Set-Cookie", "s="+password)
		w.Header().Set("Link", "</v2/?token="+password+`>; rel="next"`)
		w.Header().Set("Content-Range", password)
		w.WriteHeader(400)
		fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q,"detail":%q}],"token":%q}`, password, a, password, password)
	}
	r := newRig(t, servetest.Serve(t, http.HandlerFunc(echo)), login)
	_, err := r.Ping(t.Context())
	_, err2 := r.StartUpload(t.Context(), "app", "")
	encoded := base64.StdEncoding.EncodeToString([]byte("me:" + secret))
	for _, text := range []string{r.said(), fmt.Sprint(err), fmt.Sprint(err2)} {
		if strings.Contains(text, secret) || strings.Contains(text, encoded) {
			t.Errorf("the password comes out:\n%s", text)
		}
	}
}

// A token server may give another identity token with each token, also while other requests
// find their credentials.
func TestIdentityTokenIsReplaced(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret, Uses: 1, Answer: func(w http.ResponseWriter, _ *http.Request, token string) {
		fmt.Fprintf(w, `{"access_token":%q,"refresh_token":%q}`, token, secret)
	}}
	image(reg, "app", "v1", nil)
	r := newRig(t, servetest.Serve(t, reg), func(o *registry.Options) { o.IdentityToken = secret })
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 4 {
				if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
}

// helperRig returns a client whose credentials for the registry are in a store: the program
// docker-credential-test, whose script is given. Each call of it is a line in the file calls.
func helperRig(t *testing.T, h http.Handler, script string, change ...func(*registry.Options)) (r *rig, calls func() int) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("helpers are shell scripts")
	}
	home, bin := t.TempDir(), t.TempDir()
	host := servetest.Serve(t, h)
	os.Mkdir(filepath.Join(home, ".docker"), 0o700)
	os.WriteFile(filepath.Join(home, ".docker", "config.json"), []byte(`{"credsStore":"test"}`), 0o600)
	log := filepath.Join(bin, "calls")
	os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte("#!/bin/sh\necho call >>"+log+"\ncat >/dev/null\n"+script+"\n"), 0o700)
	r = newRig(t, host, append([]func(*registry.Options){func(o *registry.Options) {
		o.Home = home
		o.Getenv = func(name string) string { return map[string]string{"PATH": bin + ":/usr/bin:/bin"}[name] }
	}}, change...)...)
	return r, func() int {
		data, _ := os.ReadFile(log)
		return strings.Count(string(data), "call")
	}
}

// docker/cli#1591, awslabs/amazon-ecr-credential-helper#137: a public registry does not need the
// store, so it is not asked; a private one needs it once, whatever the number of requests and
// clients in a process.
func TestStoreIsAskedWhenWanted(t *testing.T) {
	answer := `echo '{"Username":"me","Secret":"` + secret + `"}'`
	open := servetest.NewQuirky(t)
	image(open, "app", "v1", nil)
	r, calls := helperRig(t, open, answer)
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil || calls() != 0 {
		t.Errorf("public registry: %d calls of the store, %v", calls(), err)
	}
	shut := servetest.NewQuirky(t)
	shut.Auth = &servetest.Auth{User: "me", Password: secret}
	image(shut, "app", "v1", nil)
	shared := new(registry.Helpers)
	var options registry.Options
	r, calls = helperRig(t, shut, answer, func(o *registry.Options) { o.Helpers = shared; options = *o })
	again, err := registry.New(r.Ref(), options)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for _, c := range []*registry.Client{r.Client, again} {
			if _, err := c.HeadManifest(t.Context(), "app", "v1"); err != nil {
				t.Error(err)
			}
		}
	}
	if calls() != 1 {
		t.Errorf("private registry: %d calls of the store, want 1", calls())
	}
}

// docker/docker-credential-helpers#105, moby/buildkit#1078: a store that cannot work, as that of
// pass without a key or the secret service without D-Bus, says so on standard output. A public
// image is pulled all the same, also where everybody gets a token; a private one is refused with
// the words of the store.
func TestBrokenStore(t *testing.T) {
	const words = "pass not initialized: exit status 1: Error: password store is empty. Try \"pass init\"."
	script := "printf '%s' '" + words + "'; exit 1"
	open := servetest.NewQuirky(t)
	image(open, "app", "v1", nil)
	r, _ := helperRig(t, open, script)
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
		t.Errorf("public registry: %v", err)
	}
	everybody := servetest.NewQuirky(t)
	everybody.Auth = &servetest.Auth{Bearer: true}
	image(everybody, "app", "v1", nil)
	r, calls := helperRig(t, everybody, script)
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil || calls() != 1 || !strings.Contains(r.said(), "pass not initialized") {
		t.Errorf("tokens for everybody: %v, %d calls, said %s", err, calls(), r.said())
	}
	for _, bearer := range []bool{false, true} {
		shut := servetest.NewQuirky(t)
		shut.Auth = &servetest.Auth{User: "me", Password: secret, Bearer: bearer}
		r, _ = helperRig(t, shut, script)
		if _, err := r.HeadManifest(t.Context(), "app", "v1"); !errors.Is(err, registry.ErrDenied) || !strings.Contains(err.Error(), "pass not initialized") {
			t.Errorf("private registry, tokens %t: %v", bearer, err)
		}
	}
}

// A helper may start a program that stays, as an agent that keeps the store unlocked, and that holds
// the pipes open. What the helper itself has answered counts.
func TestStoreLeavesAnAgent(t *testing.T) {
	shut := servetest.NewQuirky(t)
	shut.Auth = &servetest.Auth{User: "me", Password: secret}
	image(shut, "app", "v1", nil)
	r, _ := helperRig(t, shut, `sleep 5 & echo '{"Username":"me","Secret":"`+secret+`"}'`)
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil {
		t.Error(err)
	}
}

// markrussinovich/refchecker#67, virtualcell/vcell#1888: a rate limit under 403 or 400, as a code
// of the specification or in words alone, is waited for and is no matter of credentials.
func TestRateLimitsThatAreNot429(t *testing.T) {
	for _, c := range []struct {
		status int
		body   string
		header []string
	}{
		{403, `{"errors":[{"code":"DENIED","message":"slow down"}]}`, []string{"Retry-After", "1"}},
		{403, "", []string{"Retry-After", "0"}},
		{403, "", []string{"X-RateLimit-Remaining", "0"}},
		{403, "", []string{"RateLimit-Remaining", "0", "RateLimit-Reset", "1"}},
		{400, `{"__type":"ThrottlingException","message":"Rate exceeded"}`, nil},
		{425, "", nil},
		{403, `{"errors":[{"code":"DENIED","message":"You have exceeded a secondary rate limit. Please wait a few minutes before you try again."}]}`, nil},
		{403, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down"}]}`, nil},
		{400, `{"errors":[{"code":"TOOMANYREQUESTS"}]}`, nil},
		{400, `{"errors":[{"code":"UNAVAILABLE"}]}`, nil},
	} {
		reg := servetest.NewQuirky(t)
		image(reg, "app", "v1", nil)
		r := newRig(t, servetest.Serve(t, servetest.BreakAt(1, servetest.Answer(c.status, c.body, c.header...), reg)))
		if _, _, err := r.GetManifest(t.Context(), "app", "v1"); err != nil || len(r.waits) == 0 || r.waits[0] < 100*time.Millisecond {
			t.Errorf("once %d %s: %v, waited %v", c.status, c.body, err, r.waits)
		}
		r = newRig(t, servetest.Serve(t, servetest.BreakFrom(1, servetest.Answer(c.status, c.body, c.header...), reg)))
		if _, _, err := r.GetManifest(t.Context(), "app", "v1"); status(err) != 3 {
			t.Errorf("always %d %s %s: status %d, %v", c.status, c.body, c.header, status(err), err)
		}
	}

	// A refusal stays one, beside headers that go with every answer.
	refused := servetest.Answer(403, `{"errors":[{"code":"DENIED","message":"no"}]}`, "RateLimit-Remaining", "10", "RateLimit-Reset", "60")
	r := newRig(t, servetest.Serve(t, servetest.BreakFrom(1, refused, nil)))
	if _, _, err := r.GetManifest(t.Context(), "app", "v1"); status(err) != 5 || len(r.waits) > 0 {
		t.Errorf("403: status %d after %d waits, %v", status(err), len(r.waits), err)
	}
	r = newRig(t, servetest.Serve(t, servetest.BreakFrom(1, servetest.Answer(499, ""), nil)))
	if _, _, err := r.GetManifest(t.Context(), "app", "v1"); err == nil || strings.Contains(err.Error(), "()") {
		t.Errorf("499: %v", err)
	}
}

// google/go-containerregistry#861: the explanation says what the registry asks for, also where
// there is nothing to answer with.
func TestTokenExplainsWhatWasAsked(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{User: "me", Password: secret}
	if info, err := newRig(t, servetest.Serve(t, reg)).Token(t.Context()); info.Scheme != "basic" || !errors.Is(err, registry.ErrDenied) {
		t.Errorf("Basic without credentials: Token() = %+v, %v", info, err)
	}
}

// A token that was made elsewhere is sent as it is.
func TestRegistryToken(t *testing.T) {
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{Bearer: true, User: "me", Password: secret}
	image(reg, "app", "v1", nil)
	host := servetest.Serve(t, reg)
	info, err := newRig(t, host, login).Token(t.Context(), "repository:app:pull")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, host, func(o *registry.Options) { o.RegistryToken = info.Token })
	if _, err := r.HeadManifest(t.Context(), "app", "v1"); err != nil || strings.Contains(r.said(), info.Token) {
		t.Errorf("%v, said %s", err, r.said())
	}
}

// distribution/distribution#426, docker/sbx-releases#535: one private authority for the registry,
// its token server and its storage, each a host of its own. To trust it for one is to trust it
// for all. Not to verify the registry is another matter: it ends at the registry's host.
func TestAuthorityReachesOtherHosts(t *testing.T) {
	reg := servetest.NewQuirky(t)
	_, blob := image(reg, "app", "v1", []byte("layer"))
	reg.Auth = &servetest.Auth{Bearer: true}

	others := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			reg.Auth.Token(w, r)
			return
		}
		if len(r.TLS.PeerCertificates) > 0 || r.Header.Get("Authorization") != "" || r.Header.Get("X-Key") != "" {
			t.Error("another host was sent what is for the registry alone")
		}
		w.Write([]byte("layer"))
	}))
	defer others.Close()
	others.TLS.ClientAuth = tls.RequestClientCert
	port := others.URL[strings.LastIndexByte(others.URL, ':'):]
	elsewhere := "https://example.com" + port // a name in the test certificate
	reg.Auth.Realm = elsewhere + "/token"

	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") && strings.HasPrefix(r.Header.Get("Authorization"), "Bearer") {
			if r.Header.Get("X-Key") != "planted-key" {
				t.Error("the registry was not sent the header")
			}
			http.Redirect(w, r, elsewhere+"/storage", http.StatusTemporaryRedirect)
			return
		}
		reg.ServeHTTP(w, r)
	}))
	defer server.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	os.WriteFile(ca, pemOf(server.Certificate().Raw), 0o600)

	host := strings.TrimPrefix(server.URL, "https://")
	trust := func(o *registry.Options) {
		o.PlainHTTP, o.CAFile = false, ca
		o.Header = http.Header{"X-Key": {"planted-key"}}
		o.Resolve = map[string]string{"example.com" + port: strings.TrimPrefix(others.URL, "https://")}
	}
	r := newRig(t, host, trust)
	if data, err := readBlob(t, r, "app", blob); err != nil || string(data) != "layer" {
		t.Errorf("with the authority: %q, %v", data, err)
	}
	if strings.Contains(r.said(), "planted-key") {
		t.Error("the header was printed")
	}
	r = newRig(t, host, trust, func(o *registry.Options) { o.CAFile, o.Insecure = "", true })
	var conn *registry.ConnError
	if _, err := readBlob(t, r, "app", blob); !errors.As(err, &conn) || !conn.BadCertificate() || !strings.Contains(conn.URL, "example.com") {
		t.Errorf("insecure registry with a token server elsewhere: %v", err)
	}
}

// What the token server grants is shown beside what was asked for.
func TestGrantedLess(t *testing.T) {
	claims := base64.RawURLEncoding.EncodeToString([]byte(`{"access":[{"type":"repository","name":"app","actions":["pull"]}]}`))
	reg := servetest.NewQuirky(t)
	reg.Auth = &servetest.Auth{Bearer: true, Answer: func(w http.ResponseWriter, _ *http.Request, token string) {
		fmt.Fprintf(w, `{"token":"e30.%s.%s"}`, claims, token)
	}}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && r.Header.Get("Authorization") != "" {
			w.WriteHeader(403)
			return
		}
		reg.ServeHTTP(w, r)
	})
	r := newRig(t, servetest.Serve(t, h))
	info, err := r.Token(t.Context(), "repository:app:pull,push")
	if err != nil || info.Less != "the token server granted repository:app:pull, not push on repository:app" {
		t.Errorf("Token() = %+v, %v", info, err)
	}
	var less *auth.GrantError
	if _, err := r.StartUpload(t.Context(), "app", ""); !errors.Is(err, registry.ErrDenied) || !errors.As(err, &less) || less.Less != info.Less || less.Given {
		t.Errorf("StartUpload() = %v", err)
	}

	// So it is of a token that the user has brought.
	r = newRig(t, servetest.Serve(t, h), func(o *registry.Options) { o.RegistryToken = info.Token })
	if _, err := r.StartUpload(t.Context(), "app", ""); !errors.As(err, &less) || less.Less != info.Less || !less.Given || strings.Contains(err.Error(), info.Token) {
		t.Errorf("StartUpload() with a token = %v", err)
	}
}

// oras-project/oras#2118: the folders of certificates that podman, rootless Docker and Docker
// Desktop read. The host of an IPv6 address keeps its brackets there.
func TestCertificateFolders(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		server := httptest.NewUnstartedServer(servetest.NewQuirky(t))
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Logf("%s: %v", address, err) // a machine without IPv6
			continue
		}
		server.Listener.Close()
		server.Listener = l
		server.StartTLS()
		defer server.Close()
		certificateFolders(t, server)
	}
}

func certificateFolders(t *testing.T, server *httptest.Server) {
	host := strings.TrimPrefix(server.URL, "https://")
	for folder, config := range map[string]string{
		"home/.config/containers/certs.d": "", "home/.config/docker/certs.d": "", "home/.docker/certs.d": "",
		"cfg/containers/certs.d": "cfg", "cfg/docker/certs.d": "cfg",
	} {
		dir := t.TempDir()
		name := filepath.Join(dir, folder, host)
		if err := os.MkdirAll(name, 0o700); err != nil {
			if runtime.GOOS == "windows" {
				t.Skip("a colon is not allowed in names")
			}
			t.Fatal(err)
		}
		os.WriteFile(filepath.Join(name, "any.crt"), pemOf(server.Certificate().Raw), 0o600)
		r := newRig(t, host, func(o *registry.Options) {
			o.PlainHTTP, o.Home = false, filepath.Join(dir, "home")
			o.Getenv = func(name string) string {
				if name == "XDG_CONFIG_HOME" && config != "" {
					return filepath.Join(dir, config)
				}
				return ""
			}
		})
		if _, err := r.Ping(t.Context()); err != nil {
			t.Errorf("%s, host %s: %v", folder, host, err)
		}
	}
}
