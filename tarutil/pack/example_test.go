package pack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"ocikit/tarutil/pack"
)

// A directory becomes the tar of a layer, below /srv.
func ExampleTar() {
	dir, err := os.MkdirTemp("", "site")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("hello\n"), 0o644); err != nil {
		fmt.Println(err)
		return
	}

	var buf bytes.Buffer
	sources := []pack.Source{{Path: dir, Dest: "srv"}}
	opts := pack.Options{Whiteouts: []string{"etc/motd"}}
	if err := pack.Tar(context.Background(), &buf, sources, opts); err != nil {
		fmt.Println(err)
		return
	}

	for tr := tar.NewReader(&buf); ; {
		hdr, err := tr.Next()
		if err != nil {
			break
		}
		fmt.Println(hdr.Name, hdr.Uid, hdr.ModTime.Unix())
	}
	// Output:
	// etc/.wh.motd 0 0
	// srv/index.html 0 0
}
