// Requestload sends many small requests to a registry, and prints what they cost it:
//
//	requestload ADDRESS PID tags N STEP
//	requestload ADDRESS PID rate CLIENTS N
//
// The first pushes N images under a tag each, one after another over one connection, and prints a line
// for each STEP of them: how many there are, the seconds that the step took, the seconds of processor
// time that the registry, the process PID, used for it. The second sends N requests of a kind by CLIENTS
// at once and prints a line for each kind: its name, requests in a second, milliseconds of the
// registry's processor time for each.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		log.Fatal("usage: requestload ADDRESS PID tags N STEP | rate CLIENTS N")
	}
	first, second := number(os.Args[4]), number(os.Args[5])
	r := &registry{base: "http://" + os.Args[1] + "/v2/load/", pid: os.Args[2]}
	switch os.Args[3] {
	case "tags":
		r.tags(first, second)
	case "rate":
		r.rate(first, second)
	default:
		log.Fatalf("%q: want tags or rate", os.Args[3])
	}
}

func number(s string) int {
	n, err := strconv.Atoi(s)
	must(err)
	return n
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

type registry struct {
	base, pid string
	client    http.Client
	config    string // the members of its descriptor
	layer     string
}

// send sends a request and reads the answer, which has the status want.
func (r *registry) send(want int, method, where, mediaType string, body []byte) *http.Response {
	if !strings.Contains(where, "://") {
		where = r.base + where
	}
	req, err := http.NewRequest(method, where, bytes.NewReader(body))
	must(err)
	if mediaType != "" {
		req.Header.Set("Content-Type", mediaType)
		req.Header.Set("Accept", mediaType)
	}
	res, err := r.client.Do(req)
	must(err)
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	must(err)
	if res.StatusCode != want {
		log.Fatalf("%s %s: status %s: %.300s", method, where, res.Status, text)
	}
	return res
}

// push pushes a blob and returns the members of its descriptor.
func (r *registry) push(mediaType string, data []byte) string {
	res := r.send(202, "POST", "blobs/uploads/", "", nil)
	where, err := res.Request.URL.Parse(res.Header.Get("Location"))
	must(err)
	d := fmt.Sprintf("sha256:%x", sha256.Sum256(data))
	q := where.Query()
	q.Set("digest", d)
	where.RawQuery = q.Encode()
	r.send(201, "PUT", where.String(), "application/octet-stream", data)
	return fmt.Sprintf(`"digest":"%s","mediaType":"%s","size":%d`, d, mediaType, len(data))
}

const manifestType = "application/vnd.oci.image.manifest.v1+json"

func (r *registry) prepare(clients int) {
	r.client.Transport = &http.Transport{MaxIdleConnsPerHost: clients, MaxConnsPerHost: clients}
	r.config = r.push("application/vnd.oci.image.config.v1+json", []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	r.layer = r.push("application/vnd.oci.image.layer.v1.tar", blob())
}

// blob is a layer of 64 KiB.
func blob() []byte { return bytes.Repeat([]byte("0123456789abcdef"), 4096) }

// tag pushes the i-th image under its tag.
func (r *registry) tag(i int) {
	r.send(201, "PUT", fmt.Sprintf("manifests/v%d", i), manifestType, fmt.Appendf(nil,
		`{"annotations":{"number":"%d"},"config":{%s},"layers":[{%s}],"mediaType":"%s","schemaVersion":2}`, i, r.config, r.layer, manifestType))
}

// cpu is the processor time of the registry in seconds.
func (r *registry) cpu() float64 {
	stat, err := os.ReadFile("/proc/" + r.pid + "/stat")
	must(err)
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	return float64(number(f[11])+number(f[12])) / 100
}

func (r *registry) tags(n, step int) {
	r.prepare(1)
	began, cpu := time.Now(), r.cpu()
	for i := 1; i <= n; i++ {
		r.tag(i)
		if i%step == 0 {
			now := r.cpu()
			fmt.Printf("%d %.2f %.2f\n", i, time.Since(began).Seconds(), now-cpu)
			began, cpu = time.Now(), now
		}
	}
}

func (r *registry) rate(clients, n int) {
	r.prepare(clients)
	layer := "blobs/" + url.PathEscape(fmt.Sprintf("sha256:%x", sha256.Sum256(blob())))
	for _, kind := range []struct {
		name string
		send func(i int)
	}{
		{"manifest-put", r.tag},
		{"manifest-get", func(i int) { r.send(200, "GET", fmt.Sprintf("manifests/v%d", i), manifestType, nil) }},
		{"blob-head", func(int) { r.send(200, "HEAD", layer, "", nil) }},
		{"blob-get-64k", func(int) { r.send(200, "GET", layer, "", nil) }},
	} {
		var next atomic.Int64
		var all sync.WaitGroup
		began, cpu := time.Now(), r.cpu()
		for range clients {
			all.Go(func() {
				for i := next.Add(1); i <= int64(n); i = next.Add(1) {
					kind.send(int(i))
				}
			})
		}
		all.Wait()
		fmt.Printf("%s %.0f %.3f\n", kind.name, float64(n)/time.Since(began).Seconds(), 1000*(r.cpu()-cpu)/float64(n))
	}
}
