package judge

import (
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"

	"ocikit/oci/registry/tap/record"
)

const (
	dA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	dB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

	manifestA = `{"config":{"digest":"` + dA + `"}}`
)

// broken has for every rule a conversation whose last exchange breaks it, before others do or alone.
// An exchange is METHOD, path and what else there is of it, as JSON.
var broken = map[string][]string{
	"fault":             {`GET /v2/ {"status":200,"fault":"x"}`},
	"tap-cut":           {`GET /v2/ {"error":"panic: tls: x","cut":"tap"}`},
	"ended":             {`GET /v2/a/blobs/` + dA + ` {"status":200,"cut":"end","received":5}`},
	"stalled":           {`GET /v2/ {"cut":"registry","stalled":true}`},
	"client-stalled":    {`PUT /v2/a/manifests/v1 {"cut":"client","stalled":true}`},
	"tls":               {`GET /v2/ {"error":"x509: certificate signed by unknown authority"}`},
	"plain":             {`GET /v2/ {"error":"http: server gave HTTP response to HTTPS client"}`},
	"token-unreachable": {`GET /-/to/1 {"endpoint":"token","error":"connection refused"}`},
	"itself":            {`GET /v2/ {"error":"dial tcp: ` + ToItself + `"}`},
	"unreachable":       {`GET /v2/ {"error":"connection refused"}`},
	"upload-unreachable": {
		`POST /v2/a/blobs/uploads/ {"status":202,"response":{"Location":["http://internal.test:5000/v2/a/blobs/uploads/1"]}}`,
		`PATCH /v2/a/blobs/uploads/1 {"url":"http://internal.test:5000/v2/a/blobs/uploads/1","endpoint":"end-5","away":true,"error":"no such host"}`,
	},
	"storage-unreachable": {
		`GET /v2/a/blobs/` + dA + ` {"status":307,"response":{"Location":["https://Storage.test/1"]}}`,
		`GET /1 {"url":"https://storage.test/1","endpoint":"end-2","away":true,"error":"connection refused"}`,
	},
	"cut":        {`GET /v2/a/blobs/` + dA + ` {"status":200,"cut":"registry","announced":5}`},
	"client-cut": {`PUT /v2/a/manifests/v1 {"cut":"client"}`},

	"portal":          {`GET /v2/ {"status":200,"response":{"Content-Type":["text/html; charset=utf-8"]}}`},
	"body-limit":      {`PATCH /v2/a/blobs/uploads/1 {"status":413,"request":{"Content-Length":["7"]}}`},
	"length-required": {`PATCH /v2/a/blobs/uploads/1 {"status":501,"request":{"Transfer-Encoding":["chunked"]}}`},
	"https-port":      {`PUT /v2/a/blobs/uploads/1 {"status":400,"says":"The plain HTTP request was sent to HTTPS port"}`},
	"location-http":   {`POST /v2/a/blobs/uploads/ {"url":"https://r.test/v2/a/blobs/uploads/","status":202,"response":{"Location":["http://r.test/1"]}}`},
	"rate":            {`GET /v2/a/tags/list {"status":429,"response":{"Retry-After":["3"]}}`},
	"gateway":         {`GET /v2/ {"status":504}`},
	"disk-full":       {`PUT /v2/a/blobs/uploads/1 {"status":507}`},
	"internal":        {`GET /v2/ {"status":500}`},
	"name-invalid":    {`POST /v2/UPPER/blobs/uploads/ {"endpoint":"end-4a","status":400,"errors":[{"code":"NAME_INVALID"}]}`},
	"no-api":          {`GET /v2/ {"status":404}`},
	"storage":         {`GET /v2/a/blobs/` + dA + ` {"endpoint":"end-2","status":403,"away":true}`},

	"no-oauth":      {`POST /-/to/1 {"endpoint":"token","status":405}`},
	"old-protocol":  {`GET /v1/search {"endpoint":"token","status":404}`},
	"token-refused": {`GET /-/to/1 {"endpoint":"token","status":401}`},
	"token-absent":  {`GET /-/to/1 {"endpoint":"token","status":200,"answered":{"text":"{}"}}`},
	"upload-asks":   {`POST /v2/a/blobs/uploads/ {"status":202,"session":"1","response":{"Location":["/1"]}}`, `PATCH /v2/a/blobs/uploads/1 {"status":401,"session":"1"}`},
	"no-challenge":  {`GET /v2/ {"status":401}`},
	"scope":         {`GET /v2/a/tags/list {"status":401,"response":{"Www-Authenticate":["Bearer realm=\"x\",scope=\"repository:a:pull\",error=\"insufficient_scope\""]}}`},
	"token-expired": {`PUT /v2/a/manifests/v1 {"status":401,"request":{"Authorization":["Bearer REDACTED"]},"response":{"Www-Authenticate":["Bearer realm=\"x\""]}}`},
	"no-name":       {`GET /v2/ {"status":401,"request":{"Authorization":["Basic REDACTED (4 bytes)"]},"response":{"Www-Authenticate":["Basic"]}}`},
	"credentials":   {`GET /v2/ {"status":401,"request":{"Authorization":["Basic REDACTED (9 bytes)"]},"response":{"Www-Authenticate":["Basic"]}}`},
	"asks":          {`GET /v2/ {"status":401,"response":{"Www-Authenticate":["Basic"]}}`},
	"denied":        {`GET /v2/ {"status":403}`},

	"digest-client":    {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":400,"whole":"` + dB + `"}`},
	"digest-registry":  {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":400,"whole":"` + dA + `","errors":[{"code":"DIGEST_INVALID"}]}`},
	"digest-taken":     {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":201,"whole":"` + dB + `"}`},
	"digest-unknown":   {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":400}`}, // and unhashed
	"no-digest":        {`PUT /v2/a/blobs/uploads/1 {"status":400}`},
	"session-lost":     {`POST /v2/a/blobs/uploads/ {"status":202,"session":"1","response":{"Location":["/1"]}}`, `PATCH /v2/a/blobs/uploads/1 {"status":404,"session":"1"}`},
	"session-unknown":  {`PATCH /v2/a/blobs/uploads/1 {"status":404,"session":"1"}`},
	"out-of-order":     {`PATCH /v2/a/blobs/uploads/1 {"status":416,"from":3,"offset":5}`},
	"range-refused":    {`PATCH /v2/a/blobs/uploads/1 {"status":416}`},
	"patch-refused":    {`PATCH /v2/a/blobs/uploads/1 {"status":405}`},
	"location-missing": {`POST /v2/a/blobs/uploads/ {"status":202}`},
	"start":            {`POST /v2/a/blobs/uploads/ {"status":200,"response":{"Location":["/1"]}}`},
	"stale":            {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":201,"from":0,"response":{"Location":["/1"]}}`},
	"range-missing":    {`PATCH /v2/a/blobs/uploads/1 {"status":202,"response":{"Location":["/1"]}}`},
	"range-wrong":      {`PATCH /v2/a/blobs/uploads/1 {"status":202,"sent":5,"from":0,"latest":true,"offset":3,"response":{"Location":["/1"],"Range":["0-2"]}}`},
	"patch-status":     {`PATCH /v2/a/blobs/uploads/1 {"status":204,"response":{"Location":["/1"],"Range":["0-2"]}}`},
	"commit-status":    {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":204}`},
	"commit-location":  {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":201}`},
	"upload-refused":   {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":400,"errors":[{"code":"UNKNOWN"}]}`},

	"blob-absent":    {`GET /v2/a/manifests/v1 {"status":200,"response":{"Content-Type":["application/manifest"]},"answered":{"text":` + quoted(manifestA) + `}}`, `GET /v2/a/blobs/` + dA + ` {"status":404}`},
	"absent":         {`GET /v2/a/manifests/v1 {"status":404}`},
	"blob-bytes":     {`GET /v2/a/blobs/` + dA + ` {"status":200,"answered":{"digest":"` + dB + `"}}`},
	"range-ignored":  {`GET /v2/a/blobs/` + dA + ` {"status":200,"request":{"Range":["bytes=5-"]}}`},
	"content-range":  {`GET /v2/a/blobs/` + dA + ` {"status":206,"request":{"Range":["bytes=5-"]},"response":{"Content-Range":["bytes 6-9/10"]}}`},
	"encoding":       {`GET /v2/a/blobs/` + dA + ` {"status":200,"response":{"Content-Encoding":["gzip"]}}`},
	"digest-header":  {`GET /v2/a/blobs/` + dA + ` {"status":200,"response":{"Docker-Content-Digest":["` + dB + `"]}}`},
	"manifest-bytes": {`GET /v2/a/manifests/v1 {"status":200,"response":{"Docker-Content-Digest":["` + dA + `"],"Content-Type":["application/manifest"]},"answered":{"digest":"` + dB + `"}}`},
	"manifest-kind":  {`GET /v2/a/manifests/v1 {"status":200,"response":{"Content-Type":["application/json"]}}`},

	"blob-forgotten":         {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":201}`, `PUT /v2/a/manifests/v1 {"status":400,"asked":{"text":` + quoted(manifestA) + `},"errors":[{"code":"MANIFEST_BLOB_UNKNOWN","message":"` + dA + `"}]}`},
	"blob-missing":           {`PUT /v2/a/manifests/v1 {"status":400,"asked":{"text":` + quoted(manifestA) + `},"errors":[{"code":"MANIFEST_BLOB_UNKNOWN"}]}`},
	"manifest-type":          {`PUT /v2/a/manifests/v1 {"status":400}`},
	"manifest-torn":          {`PUT /v2/a/manifests/v1 {"status":400,"asked":{"size":19},"request":{"Content-Type":["application/vnd.oci.image.manifest.v1+json"]}}`},
	"manifest-digest-client": {`PUT /v2/a/manifests/` + dA + ` {"status":400,"asked":{"digest":"` + dB + `"},"request":{"Content-Type":["application/json"]},"errors":[{"code":"DIGEST_INVALID"}]}`},
	"manifest-refused":       {`PUT /v2/a/manifests/v1 {"status":400,"request":{"Content-Type":["application/json"]}}`},
	"manifest-digest-put":    {`PUT /v2/a/manifests/v1 {"status":201,"asked":{"digest":"` + dA + `"},"response":{"Location":["/1"],"Docker-Content-Digest":["` + dB + `"]}}`},
	"subject":                {`PUT /v2/a/manifests/v1 {"status":201,"response":{"Location":["/1"]},"asked":{"text":` + quoted(`{"subject":{"digest":"`+dA+`"}}`) + `}}`},
	"manifest-status":        {`PUT /v2/a/manifests/v1 {"status":202}`},

	"no-referrers":   {`GET /v2/a/referrers/` + dA + ` {"status":404}`},
	"referrers-type": {`GET /v2/a/referrers/` + dA + ` {"status":200,"response":{"Content-Type":["text/plain"]}}`},
	"tags":           {`GET /v2/a/tags/list {"status":200,"answered":{"text":"[]"}}`},
	"refused":        {`DELETE /v2/a/manifests/v1 {"status":405}`},
	"proxy-error":    {`DELETE /v2/a/manifests/v1 {"status":404,"received":9}`},
	"away":           {`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"endpoint":"end-6","status":201,"away":true,"request":{"Authorization":["Bearer REDACTED"]},"response":{"Location":["/1"]}}`},
}

func quoted(text string) string {
	data, _ := json.Marshal(text)
	return string(data)
}

func entry(t *testing.T, text string) *record.Entry {
	t.Helper()
	method, rest, _ := strings.Cut(text, " ")
	path, fields, _ := strings.Cut(rest, " ")
	e := new(record.Entry)
	e.Method, e.URL = method, "http://r.test"+path
	if err := json.Unmarshal([]byte(fields), e); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if rt, ok := e.Route(); ok && e.Endpoint == "" {
		u, _ := url.Parse(e.URL)
		e.Endpoint = rt.ID(method, u.Query())
	}
	return e
}

func TestRules(t *testing.T) {
	for _, r := range rules() {
		if broken[r.id] == nil {
			t.Errorf("rule %s: no conversation breaks it", r.id)
		}
	}
	for id, conversation := range broken {
		t.Run(id, func(t *testing.T) {
			c := New()
			var got []Verdict
			for i, text := range conversation {
				e := entry(t, text)
				e.N, e.Unhashed = i+1, id == "digest-unknown"
				got = c.Judge(e)
			}
			i := slices.IndexFunc(got, func(v Verdict) bool { return v.Rule == id })
			if i < 0 {
				t.Fatalf("verdicts %+v", got)
			}
			v := got[i]
			if strings.Contains(v.Text, "%!") || v.Broken() && (v.Advice == "" || v.Spec == "") {
				t.Errorf("verdict %+v: want a text, and for what is broken a place and what to do", v)
			}
			s := c.Summary()
			if v.Broken() && (s.Broken[id] != 1 || s.Verdict.Rule == "right") {
				t.Errorf("summary %+v", s)
			}
		})
	}
}

// What goes well in the end is not a failure: the same request, its upload, or a manifest that is taken.
func TestRecovered(t *testing.T) {
	for _, conversation := range [][]string{
		{`GET /v2/a/blobs/` + dA + ` {"status":503}`, `GET /v2/a/blobs/` + dA + ` {"status":200}`},
		{broken["range-refused"][0], `PUT /v2/a/manifests/v1 {"status":201,"response":{"Location":["/1"]}}`},
		{broken["asks"][0], `GET /v2/a/tags/list {"status":200,"request":{"Authorization":["Basic x"]},"answered":{"text":"{\"tags\":[]}"}}`},
	} {
		c := New()
		for i, text := range conversation {
			e := entry(t, text)
			e.N = i + 1
			c.Judge(e)
		}
		if s := c.Summary(); s.Verdict.Broken() && !s.Recovered {
			t.Errorf("%q: summary %+v", conversation, s)
		}
	}
	c := New()
	c.Judge(entry(t, `GET /v2/a/blobs/`+dA+` {"status":503}`))
	c.Judge(entry(t, `GET /v2/a/blobs/`+dB+` {"status":200}`))
	if s := c.Summary(); s.Recovered {
		t.Errorf("another blob than the one that failed: summary %+v", s)
	}
}

// A client that breaks off what it does not need breaks nothing, and one that breaks off what it needs
// is the cause only if nothing else is.
func TestClientCut(t *testing.T) {
	const (
		cancelled = `POST /v2/a/blobs/uploads/ {"cut":"client"}`
		page      = `"response":{"Content-Type":["text/html"]}`
		login     = `"request":{"Authorization":["Basic REDACTED (9 bytes)"]}`
		absent    = `GET /v2/a/manifests/v1 {"status":404}`
		half      = `GET /v2/a/blobs/` + dA + ` {"status":200,"cut":"client",` + login + `}`
	)

	asks := broken["asks"][0]
	for _, test := range []struct {
		conversation []string
		want         string
	}{
		{[]string{`GET /v2/ {"status":200,"cut":"client","announced":2}`}, "right"},
		{[]string{`PUT /v2/a/manifests/v1 {"status":201,"cut":"client","response":{"Location":["/1"]}}`}, "right"},
		{[]string{`PATCH /v2/a/blobs/uploads/1 {"status":202,"cut":"client","response":{"Location":["/1"]}}`}, "range-missing"},
		{[]string{`PATCH /v2/a/blobs/uploads/1 {"status":413,"cut":"client"}`}, "body-limit"},
		{[]string{`GET /v2/ {"status":200,"cut":"client",` + page + `}`}, "portal"},
		{[]string{`GET /v2/a/manifests/v1 {"status":200,"cut":"client",` + page + `}`}, "portal"},
		{[]string{half}, "client-cut"},
		{[]string{`POST /-/to/1 {"endpoint":"token","status":200,"cut":"client"}`}, "client-cut"},

		// An upload is cancelled after the refusal of another, and is written down before it.
		{[]string{cancelled, broken["denied"][0]}, "denied"},
		{[]string{cancelled, asks}, "asks"},
		{[]string{absent, cancelled}, "client-cut"},
		{[]string{asks, half}, "client-cut"},
	} {
		c := New()
		for i, text := range test.conversation {
			e := entry(t, text)
			e.N = i + 1
			c.Judge(e)
		}
		if s := c.Summary(); s.Verdict.Rule != test.want || s.Recovered {
			t.Errorf("%q: summary %+v, want the rule %s", test.conversation, s, test.want)
		}
	}
}

// The cause of a host that cannot be reached is the Location that led there, and what is long is cut
// without a trace of how the sign for that is escaped.
func TestLedAstray(t *testing.T) {
	text := func(conversation ...string) string {
		c := New()
		for i, text := range conversation {
			e := entry(t, text)
			e.N = i + 4
			c.Judge(e)
		}
		return c.Summary().Lines()[0]
	}

	for id, says := range map[string]string{
		"upload-unreachable":  `request 4 leads to internal.test:5000, which cannot be reached: "no such host"; to do: let the registry name the address`,
		"storage-unreachable": `request 4 leads to storage.test, which cannot be reached: "connection refused"; to do: make that host reachable`,
	} {
		if got := text(broken[id]...); !strings.Contains(got, says) {
			t.Errorf("%s: %s, want %q", id, got, says)
		}
	}

	// Nobody led to the registry itself.
	if got := text(broken["unreachable"][0]); !strings.Contains(got, "check its name and port") {
		t.Error(got)
	}

	long := strings.Replace(broken["location-http"][0], "r.test/1", "r.test/"+strings.Repeat("1", 200), 1)
	if got := text(long); !strings.Contains(got, "1…;") || strings.Contains(got, `\u`) {
		t.Error(got)
	}
}

// A registry that took credentials, or none, at the last request of an upload must go on to take them.
func TestUploadAsks(t *testing.T) {
	request := func(text, login string) string {
		return strings.Replace(text, "{", `{"session":"1","request":{"Authorization":["`+login+`"]},`, 1)
	}

	const (
		post  = `POST /v2/a/blobs/uploads/ {"status":202,"response":{"Location":["/1"]}}`
		patch = `PATCH /v2/a/blobs/uploads/1 {"status":202,"response":{"Location":["/1"],"Range":["0-2"]}}`
		put   = `PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":401,"response":{"Www-Authenticate":["Basic"]}}`

		basic, other, token = "Basic REDACTED (9 bytes)", "Basic REDACTED (12 bytes)", "Bearer REDACTED (9 bytes)"
	)

	for _, test := range []struct {
		name       string
		logins     []string // of POST, PATCH and PUT
		rule, said string
	}{
		{name: "the same", logins: []string{basic, basic, basic}, rule: "upload-asks", said: "took the same credentials before, at request 2"},
		{name: "none", logins: []string{"", "", ""}, rule: "upload-asks", said: "without any before, at request 2"},
		{name: "others", logins: []string{basic, basic, other}, rule: "credentials"},
		{name: "dropped", logins: []string{basic, basic, ""}, rule: "asks"},
		{name: "token", logins: []string{token, token, token}, rule: "token-expired"},
	} {
		c := New()
		for i, text := range []string{post, patch, put} {
			e := entry(t, request(text, test.logins[i]))
			e.N = i + 1
			c.Judge(e)
		}
		if v := c.Summary().Verdict; v.Rule != test.rule || !strings.Contains(v.Text, test.said) {
			t.Errorf("%s: %+v, want the rule %s", test.name, v, test.rule)
		}
	}
}

// Of too many open uploads not all are remembered, but each that ends is counted and makes room.
func TestManySessions(t *testing.T) {
	c := New()
	for i := range maxKept {
		c.sessions[fmt.Sprint(i)] = accepted{n: i}
	}
	for i, want := range []int{maxKept, maxKept - 1, maxKept} {
		c.Judge(entry(t, []string{
			`POST /v2/a/blobs/uploads/ {"status":202,"session":"more","response":{"Location":["/1"]}}`,
			`PUT /v2/a/blobs/uploads/1?digest=` + dA + ` {"status":201,"session":"1"}`,
			`POST /v2/a/blobs/uploads/ {"status":202,"session":"last","response":{"Location":["/1"]}}`,
		}[i]))
		if s := c.Summary(); s.Open != want {
			t.Errorf("after exchange %d: %d open, want %d", i+1, s.Open, want)
		}
	}
	if s := c.Summary(); s.Uploads != 2 || s.Finished != 1 {
		t.Errorf("summary: %d uploads, %d finished", s.Uploads, s.Finished)
	}
}
