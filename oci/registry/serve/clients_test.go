package serve_test

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/layout"
	"ocikit/oci/layout/layouttest"
	"ocikit/oci/registry"
	"ocikit/oci/registry/pull"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/access"
	"ocikit/oci/registry/serve/exchange"
	"ocikit/oci/registry/serve/fault"
	"ocikit/pushcmd"
)

// What may become of a request, besides success.
var (
	errAgain   = errors.New("something to try again later")
	errRefused = errors.New("an answer with a status that says no")
)

// is reports whether an error is of the kind that is wanted; nil is success.
func is(err, want error) bool {
	var status *registry.StatusError
	var re interface{ Retryable() bool }
	switch {
	case want == nil || err == nil:
		return want == err
	case want == errAgain:
		return errors.As(err, &re) && re.Retryable()
	case want == errRefused:
		return errors.As(err, &status) && !status.Retryable()
	}
	return errors.Is(err, want)
}

// A trial is what our own client does against a registry with a fault. It must end as it
// says, the fault must have been committed, and what is stored must be right.
type trial struct {
	do    func(r *rig) error // nil: push, then pull
	push  pushcmd.Options
	with  string // faults to commit besides
	login bool   // the client has name and password
	auth  bool   // and the registry wants them
	tls   bool
	wait  time.Duration // how long the client waits for a byte; 0: longer than any machine takes
	want  error
}

// trials has a trial or more for every fault.
func trials() map[string][]trial {
	works, stalls := []trial{{}}, []trial{{wait: 2 * time.Second}}
	chunks := pushcmd.Options{Mode: pushcmd.ModeChunk, ChunkSize: 1 << 20}
	stream := pushcmd.Options{Mode: pushcmd.ModeStream}
	inChunks := []trial{{push: chunks}}
	pushOnly := func(want error) []trial { return []trial{{do: (*rig).pushImage, want: want}} }
	pullOnly := func(want error) []trial { return []trial{{do: (*rig).pullImage, want: want}} }
	post := []trial{{do: (*rig).postBlob}}
	mount := []trial{{do: (*rig).mountImage}}
	cancel := []trial{{do: (*rig).cancel}}
	fails := []trial{{do: (*rig).pullAbsent, want: registry.ErrNotFound}, {do: (*rig).pullAbsent, want: registry.ErrNotFound, login: true, auth: true}}
	tags := []trial{{do: (*rig).pushTags}}
	unsafe, protocol := []trial{{want: registry.ErrUnsafe}}, []trial{{want: registry.ErrProtocol}}
	known := []trial{{}, {login: true, auth: true}}
	denied := trial{login: true, auth: true, want: registry.ErrDenied}
	return map[string][]trial{
		// F22: challenges are parsed
		"challenge-lower": known, "challenge-unquoted": known, "challenge-spaces": known, "challenge-two-headers": known,
		"challenge-two-in-one": known, "challenge-unknown-first": known, "challenge-escaped-quote": known,
		"challenge-empty-scope": known, "challenge-missing": known, "challenge-no-realm": protocol,
		// F21: no realm leads where it should not
		"realm-relative": known, "realm-foreign": {{}, denied}, "realm-metadata": unsafe,
		"realm-http":     {{tls: true, want: registry.ErrUnsafe}},
		"realm-userinfo": unsafe, "realm-file": unsafe,
		// F20, F19: the token server
		"token-access-only": known, "token-only": known, "token-absent": protocol, "token-no-expiry": known,
		"token-expires-zero": known, "token-expires-negative": known, "token-expires-far": known, "token-expires-text": known,
		"token-huge": protocol, "token-hostile": protocol, "token-html": protocol,
		"token-redirect": {{}, {login: true, auth: true, want: registry.ErrUnsafe}},
		"token-stall":    stalls, "token-503": works,
		"token-short": {{push: stream}, {push: chunks, login: true, auth: true}},
		// F17, F18, F19: refused for want of credentials
		"post-401":  {{login: true}, {do: (*rig).pushImage, want: registry.ErrDenied}},
		"head-401":  {{login: true}, {do: (*rig).pushImage, want: registry.ErrDenied}},
		"patch-401": {{login: true, push: stream}, {login: true, auth: true, push: chunks, with: "challenge-empty-scope"}},
		"put-401":   {{login: true, push: stream}, {login: true, auth: true, push: chunks, with: "challenge-empty-scope"}},
		// F16, F23, F24, F25: the start of an upload
		"post-lost": works, "post-202": post, "post-202-unread": post,
		"mount-202": mount, "mount-400": mount, "mount-403": mount, "mount-404": mount, "mount-405": mount, "mount-500": mount,
		// F1 to F4: Locations
		"location-relative": inChunks, "location-no-scheme": inChunks, "location-path-relative": inChunks, "location-query": inChunks,
		"location-missing": pushOnly(registry.ErrProtocol), "location-foreign": inChunks, "location-http": {{tls: true, push: chunks}},
		// F6, F11: Ranges
		"range-missing": inChunks, "range-bytes": inChunks, "range-negative": inChunks, "range-frozen": inChunks,
		"range-off-by-one": inChunks, "range-garbage": inChunks, "status-ahead": {{with: "patch-cut"}},
		// F5, F8 to F10, F12, F13, F56: PATCH
		"patch-200": inChunks, "patch-201": inChunks, "patch-204": inChunks,
		"patch-500": works, "patch-502": works, "patch-503": works,
		"patch-cut": {{}, {push: chunks}}, "patch-cut-part": works, "patch-cut-lost": works, "patch-cut-lost-400": works,
		"patch-cut-lost-invalid": works, "patch-stall": stalls, "patch-half": {{}, {push: chunks}}, "no-patch": works,
		// F26 to F31: chunks
		"chunk-min": inChunks, "chunk-min-absurd": pushOnly(registry.ErrProtocol), "chunk-max": works,
		"chunk-416":  {{push: pushcmd.Options{Mode: pushcmd.ModeChunk, ChunkSize: 5 << 20}}},
		"chunk-lost": inChunks, "chunk-needs-range": {{do: (*rig).withoutRange, want: errRefused}}, "no-chunked": {{do: (*rig).chunkedBody, want: errRefused}}, "put-413": {{push: pushcmd.Options{Mode: pushcmd.ModePut}}},
		// F14, F15, F35, F51: the end of an upload
		"put-500": works, "put-lost": works,
		"put-301": pushOnly(registry.ErrUnsafe), "put-302": pushOnly(registry.ErrUnsafe), "put-303": pushOnly(registry.ErrUnsafe),
		"put-307": works, "put-308": works,
		"cancel-400": cancel, "cancel-401": cancel, "cancel-404": cancel, "cancel-500": cancel, "cancel-stall": {{do: (*rig).cancel, wait: 2 * time.Second}},
		// F32, F54, F56: the connection
		"expect-417": works, "expect-silent": works, "expect-late": works, "headers-slow": {{wait: time.Second}}, "connection-stale": {{}, {push: chunks}},
		// F40 to F43: manifests
		"manifest-put-digest": pushOnly(digest.ErrMismatch), "manifest-put-bare": works,
		"manifest-get-digest": pullOnly(digest.ErrMismatch), "manifest-get-bare": works, "manifest-charset": works,
		"manifest-type": pullOnly(registry.ErrProtocol), "manifest-blob-unknown": works, "manifest-413": pushOnly(errRefused),
		"manifest-invalid": works, "manifest-child": {{do: (*rig).pullIndex, want: digest.ErrMismatch}},
		// F45, F46: referrers
		"no-referrers": {{do: (*rig).attach}}, "no-referrers-name": {{do: (*rig).attach}}, "no-subject": {{do: (*rig).attach}},
		"fallback-lost": {{do: (*rig).attach, with: "no-referrers"}},
		// F44, F47, F57: tags
		"immutable-tags": {{do: (*rig).pushTwice, want: errRefused}}, "tags-some": tags, "tags-none": tags, "tags-comma": tags,
		"tags-loop": {{do: (*rig).listTags, want: registry.ErrProtocol}}, "tags-foreign": {{do: (*rig).listTags, want: registry.ErrUnsafe}},
		// F48: HEAD
		"head-length": works, "head-403": works, "head-405": works, "head-500": pushOnly(errAgain),
		// F37 to F39, F56: blobs
		"blob-cut": works, "blob-stall": stalls, "blob-slow": {{do: (*rig).pullSmall}}, "blob-corrupt": pullOnly(digest.ErrMismatch),
		"blob-longer": pullOnly(digest.ErrMismatch), "blob-shorter": pullOnly(digest.ErrMismatch),
		"blob-no-range": {{with: "blob-cut"}}, "blob-wrong-range": {{do: (*rig).pullImage, with: "blob-cut"}}, // the whole is asked for then
		"blob-open-range": {{do: (*rig).openRange, want: errRefused}}, "blob-gzip-label": works,
		// F34, F36, F37: redirects
		"blob-redirect": {{}, {login: true, with: "head-401"}}, "blob-redirect-expired": works,
		"blob-redirect-many": pullOnly(registry.ErrUnsafe), "blob-redirect-loop": pullOnly(registry.ErrUnsafe),
		"blob-redirect-http": {{do: (*rig).pullImage, tls: true, want: registry.ErrUnsafe}},
		// F33, F13
		"429": works, "429-seconds": works, "429-date": works, "429-epoch": works, "429-reset": works, "503": works,
		// F49, F50: what the registry says
		"errors-html": fails, "errors-empty": fails, "errors-text": fails, "errors-huge": fails, "errors-hostile": fails, "errors-torn": fails,
		"warnings": works,
	}
}

// TestFaultsMeetOurClient tries every fault on our own push and pull.
func TestFaultsMeetOurClient(t *testing.T) {
	all := trials()
	src := newSource(t)
	for n, f := range fault.All() {
		if len(all[f.Name]) == 0 {
			t.Errorf("fault %s has no trial: add one to trials, and run it without -short", f.Name)
		}
		if testing.Short() && n%12 != 0 {
			continue
		}
		for i, tr := range all[f.Name] {
			t.Run(fmt.Sprint(f.Name, "#", i), func(t *testing.T) {
				t.Parallel()
				r := newRig(t, src, f.Name, tr)
				do := tr.do
				if do == nil {
					do = (*rig).pushAndPull
				}
				err := do(r)
				if !is(err, tr.want) {
					t.Errorf("got %v, want %v", err, tr.want)
				}
				if err != nil && strings.ContainsFunc(err.Error(), func(c rune) bool { return c < ' ' || c == 0x7f }) {
					t.Errorf("control characters in %q", err)
				}
				r.wasCommitted()
				r.verify(filepath.Join(r.dir, "app"))
			})
		}
	}
}

// A source is a layout with what is pushed.
type source struct {
	l                     *layout.Layout
	image, other, index   oci.Descriptor
	signature, provenance oci.Descriptor
}

// sent is the size of the blob that the faults are about: more than the 4 MiB up to which a
// blob goes with one PUT.
const sent = 5<<20 + 1000

func newSource(t *testing.T) *source {
	t.Helper()
	l := layouttest.New(t)
	put := func(mediaType string, data []byte) oci.Descriptor {
		if _, _, err := l.Put(bytes.NewReader(data), digest.Digest{}); err != nil {
			t.Fatal(err)
		}
		return oci.Describe(mediaType, data)
	}
	doc := func(mediaType string, v any) oci.Descriptor {
		data, err := oci.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		return put(mediaType, data)
	}
	config := put(oci.MediaTypeConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	image := func(seed byte, sizes ...int) oci.Descriptor {
		m := oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, Config: config}
		for _, n := range sizes {
			data := make([]byte, n)
			rand.NewChaCha8([32]byte{seed, byte(n)}).Read(data)
			m.Layers = append(m.Layers, put(oci.MediaTypeLayer, data))
		}
		return doc(oci.MediaTypeManifest, m)
	}
	s := &source{l: l, image: image(1, sent, 100_000), other: image(2, 1000)}
	s.index = doc(oci.MediaTypeIndex, oci.Index{SchemaVersion: 2, MediaType: oci.MediaTypeIndex, Manifests: []oci.Descriptor{s.other, s.image}})
	empty := put(oci.MediaTypeEmpty, []byte("{}"))
	about := func(kind string) oci.Descriptor {
		return doc(oci.MediaTypeManifest, oci.Manifest{SchemaVersion: 2, MediaType: oci.MediaTypeManifest, ArtifactType: kind, Config: empty, Subject: &s.other})
	}
	s.signature, s.provenance = about("a/signature"), about("a/provenance")
	return s
}

// A rig is a registry with a fault and a client of it.
type rig struct {
	*testing.T
	src *source
	tr  trial
	dir string // of the registry
	c   *registry.Client
	ref registry.Reference

	fired     sync.Once
	committed chan struct{} // is closed when the fault is in the log
}

// wasCommitted waits until the fault was. A request is in the log only when it has ended.
func (r *rig) wasCommitted() { <-r.committed }

const faultUser, faultPassword = "me", "planted-secret"

func newRig(t *testing.T, src *source, fault string, tr trial) *rig {
	t.Helper()
	r := &rig{T: t, src: src, tr: tr, dir: t.TempDir(), committed: make(chan struct{})}
	o := serve.Options{Faults: []string{fault}, Log: func(a exchange.Access) {
		if slices.Contains(strings.Split(a.Fault, ","), fault) {
			r.fired.Do(func() { close(r.committed) })
		}
	}}
	if tr.with != "" {
		o.Faults = append(o.Faults, tr.with)
	}
	if tr.auth {
		o.Auth = faultAuth(t)
	}
	r.c, r.ref = r.connect(o)
	return r
}

// faultAuth lets in the one user; a single round costs no time.
func faultAuth(t *testing.T) *access.Auth {
	t.Helper()
	const line = faultUser + ":$pbkdf2-sha256$1$c2FsdA$" // the hash follows
	a, err := access.NewAuth(strings.NewReader(line+oneRound(t)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// connect starts a registry of the directory and returns a client of it.
func (r *rig) connect(o serve.Options) (*registry.Client, registry.Reference) {
	r.Helper()
	s, err := serve.New(r.dir, o)
	if err != nil {
		r.Fatal(err)
	}
	hs := httptest.NewUnstartedServer(nil)
	hs.Config = s.HTTPServer()
	scheme := "http://"
	if r.tr.tls {
		scheme = "https://"
		hs.StartTLS()
	} else {
		hs.Start()
	}
	r.Cleanup(func() {
		hs.CloseClientConnections()
		hs.Close()
		s.Close()
	})
	ref, err := registry.ParseHost(strings.TrimPrefix(hs.URL, scheme))
	if err != nil {
		r.Fatal(err)
	}
	co := registry.Options{
		PlainHTTP: !r.tr.tls, Insecure: r.tr.tls, Retry: 3, Timeout: r.tr.wait,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	if r.tr.login {
		co.Username, co.Password = faultUser, faultPassword
	}
	c, err := registry.New(ref, co)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(c.Close)
	return c, registry.Reference{Host: ref.Host, Repo: "app", Tag: "v1"}
}

// stock puts an image into the registry, past its faults.
func (r *rig) stock(desc oci.Descriptor, repo string) {
	r.Helper()
	c, ref := (&rig{T: r.T, dir: r.dir}).connect(serve.Options{})
	ref.Repo = repo
	if _, err := pushcmd.Push(r.Context(), c, r.src.l, desc, ref, pushcmd.Options{}); err != nil {
		r.Fatal(err)
	}
}

func (r *rig) pushDesc(desc oci.Descriptor, ref registry.Reference, o pushcmd.Options) error {
	o.Sleep = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	_, err := pushcmd.Push(r.Context(), r.c, r.src.l, desc, ref, o)
	return err
}

// pushImage pushes, and fails unless what is stored is what the error says.
func (r *rig) pushImage() error {
	r.Helper()
	err := r.pushDesc(r.src.image, r.ref, r.tr.push)
	if err == nil {
		r.holds("app", "v1", r.src.image)
	}
	return err
}

// holds fails unless the registry has an image, whole, under a tag.
func (r *rig) holds(repo, tag string, want oci.Descriptor) {
	r.Helper()
	l, err := layout.Open(filepath.Join(r.dir, repo))
	if err != nil {
		r.Fatal(err)
	}
	defer l.Close()
	desc, err := l.Resolve(oci.ImageName{Tag: tag})
	if err != nil || desc.Digest != want.Digest {
		r.Errorf("the registry has %s under %q, want %s: %v", desc.Digest, tag, want.Digest, err)
	}
	if err := graph.Check(l, desc, graph.Rules{}); err != nil {
		r.Errorf("image %s: %v", tag, err)
	}
}

// verify fails unless a directory is a sound layout, or absent.
func (r *rig) verify(dir string) {
	r.Helper()
	l, err := layout.Open(dir)
	if err != nil {
		return
	}
	defer l.Close()
	findings, _, err := l.Verify(r.Context(), layout.VerifyOptions{})
	if err != nil || len(findings) > 0 {
		r.Errorf("verify %s: %v %+v", dir, err, findings)
	}
}

func (r *rig) pullImage() error {
	r.Helper()
	r.stock(r.src.image, "app")
	return r.pull(r.src.image)
}

func (r *rig) pullSmall() error {
	r.Helper()
	r.stock(r.src.other, "app")
	return r.pull(r.src.other)
}

// pull pulls app:v1 into a new layout, which has the name if and only if it has the image.
func (r *rig) pull(want oci.Descriptor) error {
	r.Helper()
	dir := filepath.Join(r.TempDir(), "pulled")
	l, err := layout.Init(dir)
	if err != nil {
		r.Fatal(err)
	}
	defer l.Close()
	im, err := pull.Find(r.Context(), r.c, r.ref, pull.Options{})
	if err == nil {
		_, err = im.Pull(r.Context(), l, im.Desc.WithAnnotation(oci.AnnotationRefName, "v1"))
	}
	desc, resolveErr := l.Resolve(oci.ImageName{Tag: "v1"})
	if (err == nil) != (resolveErr == nil) || err == nil && (desc.Digest != want.Digest || graph.Check(l, desc, graph.Rules{}) != nil) {
		r.Errorf("pull: %v, and the name is %s, %v", err, desc.Digest, resolveErr)
	}
	r.verify(dir)
	return err
}

func (r *rig) pushAndPull() error {
	r.Helper()
	if err := r.pushImage(); err != nil {
		return err
	}
	return r.pull(r.src.image)
}

// mountImage pushes an image whose blobs another repository has.
func (r *rig) mountImage() error {
	r.Helper()
	r.stock(r.src.image, "base")
	r.tr.push.MountFrom = []string{"base"}
	return r.pushImage()
}

// postBlob sends a blob with one POST, and goes on in the session if there is one.
func (r *rig) postBlob() error {
	r.Helper()
	data := []byte("a blob")
	d := digest.FromBytes(data)
	body := func() registry.Body { return registry.Body{Reader: bytes.NewReader(data), Size: int64(len(data))} }
	done, up, err := r.c.PostBlob(r.Context(), "app", d, body())
	if err != nil || done {
		return fmt.Errorf("PostBlob = %t, %v, want a session", done, err)
	}
	if err := r.c.PutUpload(r.Context(), &up, d, body()); err != nil {
		return err
	}
	_, err = r.c.HeadBlob(r.Context(), "app", d)
	return err
}

func (r *rig) cancel() error {
	up, err := r.c.StartUpload(r.Context(), "app", digest.SHA256)
	if err != nil {
		return err
	}
	r.c.CancelUpload(r.Context(), up) // nothing can be done if it did not work
	return nil
}

func (r *rig) pullAbsent() error {
	r.stock(r.src.other, "app")
	_, _, err := r.c.GetManifest(r.Context(), "app", "absent")
	return err
}

func (r *rig) pullIndex() error {
	r.Helper()
	r.stock(r.src.index, "app")
	r.ref.Tag, r.ref.Digest = "", r.src.index.Digest
	_, err := pull.Find(r.Context(), r.c, r.ref, pull.Options{})
	return err
}

func (r *rig) pushTags() error {
	r.Helper()
	err := r.pushDesc(r.src.other, r.ref, pushcmd.Options{Tags: []string{"v2", "v3"}})
	for _, tag := range []string{"v1", "v2", "v3"} {
		r.holds("app", tag, r.src.other)
	}
	return err
}

// pushTwice pushes an image, the same again, and another one by the same tag.
func (r *rig) pushTwice() error {
	r.Helper()
	for range 2 {
		if err := r.pushDesc(r.src.other, r.ref, pushcmd.Options{}); err != nil {
			return fmt.Errorf("the same image again: %v", err)
		}
	}
	return r.pushDesc(r.src.image, r.ref, pushcmd.Options{})
}

func (r *rig) listTags() error {
	r.Helper()
	r.stock(r.src.other, "app")
	for _, err := range r.c.Tags(r.Context(), "app", 0) {
		if err != nil {
			return err
		}
	}
	return nil
}

// attach pushes two manifests about an image; both must be found.
func (r *rig) attach() error {
	r.Helper()
	r.stock(r.src.other, "app")
	for _, desc := range []oci.Descriptor{r.src.signature, r.src.provenance} {
		ref := r.ref
		ref.Tag, ref.Digest = "", desc.Digest
		if err := r.pushDesc(desc, ref, pushcmd.Options{}); err != nil {
			return err
		}
	}
	list, err := r.c.Referrers(r.Context(), "app", r.src.other.Digest, "")
	if len(list.Descriptors) != 2 {
		r.Errorf("%d referrers, want 2", len(list.Descriptors))
	}
	return err
}

// openRange and chunkedBody send what our client never does, past its rules.
func (r *rig) openRange() error {
	r.Helper()
	r.stock(r.src.image, "app")
	return r.raw("GET", "/v2/app/blobs/"+r.layer().Digest.String(), nil, "Range", "bytes=5-")
}

// withoutRange sends two chunks that do not say where they belong.
func (r *rig) withoutRange() error {
	up, err := r.c.StartUpload(r.Context(), "app", digest.SHA256)
	for range 2 {
		if err == nil {
			err = r.c.PatchUpload(r.Context(), &up, registry.Body{Reader: strings.NewReader("chunk"), Size: 5, NoRange: true})
		}
	}
	return err
}

func (r *rig) chunkedBody() error {
	r.Helper()
	if err := r.pushDesc(r.src.other, r.ref, r.tr.push); err != nil {
		return err
	}
	return r.raw("POST", "/v2/app/blobs/uploads/?digest="+digest.FromBytes([]byte("x")).String(), struct{ *strings.Reader }{strings.NewReader("x")})
}

// layer is the first one of the image.
func (r *rig) layer() oci.Descriptor {
	r.Helper()
	data, err := r.src.l.Document(r.src.image)
	if err != nil {
		r.Fatal(err)
	}
	m, err := oci.DecodeManifest(r.src.image, data)
	if err != nil {
		r.Fatal(err)
	}
	return m.Layers[0]
}

// raw sends a request and returns a StatusError if it is refused.
func (r *rig) raw(method, path string, body io.Reader, header ...string) error {
	r.Helper()
	req, err := http.NewRequest(method, r.c.URL()+path, body)
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.StatusCode >= 400 {
		return &registry.StatusError{Method: method, URL: path, Status: resp.StatusCode}
	}
	return nil
}

// oneRound is the hash of the password in the password file of the trials.
func oneRound(t *testing.T) string {
	t.Helper()
	key, err := pbkdf2.Key(sha256.New, faultPassword, []byte("salt"), 1, sha256.Size)
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(base64.RawStdEncoding.EncodeToString(key), "+", ".")
}
