// Manyimages makes a layout of many images for the benchmark of scale, in the time that their files
// take: each has a manifest of its own, and all share config and layer.
//
//	manyimages DIR N
//	manyimages DIR N nested
//
// The second makes one image, in N indexes one in another, under the name "nested".
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strconv"
)

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: manyimages DIR N [nested]")
	}
	n, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	m := maker{dir: os.Args[1]}
	must(os.MkdirAll(filepath.Join(m.dir, "blobs/sha256"), 0o755))

	tar := make([]byte, 10240)
	layer := m.blob("application/vnd.oci.image.layer.v1.tar", tar)
	config := m.blob("application/vnd.oci.image.config.v1+json", fmt.Appendf(nil,
		`{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":["sha256:%x"],"type":"layers"}}`, sha256.Sum256(tar)))
	manifest := func(i int) string {
		return m.blob("application/vnd.oci.image.manifest.v1+json", fmt.Appendf(nil,
			`{"annotations":{"number":"%d"},"config":{%s},"layers":[{%s}],"mediaType":"application/vnd.oci.image.manifest.v1+json","schemaVersion":2}`, i, config, layer))
	}
	const tail = `],"mediaType":"application/vnd.oci.image.index.v1+json","schemaVersion":2}`
	list := bytes.NewBufferString(`{"manifests":[`)
	if len(os.Args) > 3 {
		desc := manifest(0)
		for range n {
			desc = m.blob("application/vnd.oci.image.index.v1+json", fmt.Appendf(nil, `{"manifests":[{%s}%s`, desc, tail))
		}
		fmt.Fprintf(list, `{"annotations":{"org.opencontainers.image.ref.name":"nested"},%s}`, desc)
		n = 0
	}
	for i := range n {
		if i > 0 {
			list.WriteByte(',')
		}
		fmt.Fprintf(list, `{"annotations":{"org.opencontainers.image.ref.name":"v%d"},%s}`, i, manifest(i))
	}
	list.WriteString(tail)
	m.file("index.json", list.Bytes())
	m.file("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
}

type maker struct{ dir string }

// blob writes a blob and returns the members of its descriptor.
func (m maker) blob(mediaType string, data []byte) string {
	sum := sha256.Sum256(data)
	m.file(fmt.Sprintf("blobs/sha256/%x", sum), data)
	return fmt.Sprintf(`"digest":"sha256:%x","mediaType":"%s","size":%d`, sum, mediaType, len(data))
}

func (m maker) file(name string, data []byte) {
	must(os.WriteFile(filepath.Join(m.dir, name), data, 0o644))
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
