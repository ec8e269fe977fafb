package stack_test

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"

	"ocikit/tarutil"
	"ocikit/tarutil/stack"
)

// layer returns a layer of empty files.
func layer(name string, files ...string) stack.Layer {
	var buf bytes.Buffer
	tw := tarutil.NewWriter(&buf)
	for _, file := range files {
		tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: file, Mode: 0o644})
	}
	tw.Close()
	return stack.Layer{
		Name: name,
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
	}
}

// The upper layer adds a file and removes one of the lower.
func ExampleApply() {
	layers := []stack.Layer{
		layer("base", "etc/motd", "etc/passwd"),
		layer("app", "etc/.wh.motd", "srv/app"),
	}
	merged, err := stack.Apply(context.Background(), layers, stack.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}

	err = merged.Walk(context.Background(), func(e tarutil.TreeEntry) error {
		fmt.Println(e.Header.Name)
		return nil
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// etc
	// etc/passwd
	// srv
	// srv/app
}
