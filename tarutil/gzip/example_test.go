package gzip_test

import (
	"bytes"
	stdgzip "compress/gzip"
	"fmt"
	"io"
	"strings"

	"ocikit/tarutil/gzip"
)

// The number of workers changes the time, and never the bytes.
func ExampleNewWriter() {
	text := strings.Repeat("the same bytes every time\n", 100_000)
	var outputs [2][]byte
	for i, workers := range []int{1, 8} {
		var buf bytes.Buffer
		zw, err := gzip.NewWriter(&buf, gzip.DefaultLevel, workers)
		if err != nil {
			fmt.Println(err)
			return
		}
		io.WriteString(zw, text)
		if err := zw.Close(); err != nil {
			fmt.Println(err)
			return
		}
		outputs[i] = buf.Bytes()
	}
	fmt.Println(bytes.Equal(outputs[0], outputs[1]))

	// Any gzip reader reads it.
	zr, err := stdgzip.NewReader(bytes.NewReader(outputs[0]))
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := io.ReadAll(zr)
	fmt.Println(string(got) == text, err)
	// Output:
	// true
	// true <nil>
}
