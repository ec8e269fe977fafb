package digest_test

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"ocikit/digest"
)

// A blob is named by the digest of its bytes.
func ExampleFromReader() {
	d, size, err := digest.FromReader(digest.SHA256, strings.NewReader("hello\n"))
	fmt.Println(d, size, err)
	// Output:
	// sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 6 <nil>
}

// Whoever reads a [digest.Reader] to its end has verified what was read: bytes that are not
// those of the digest end with an error in place of io.EOF.
func ExampleNewReader() {
	want := digest.FromBytes([]byte("hello\n"))
	_, err := io.ReadAll(digest.NewReader(strings.NewReader("jello\n"), want, 6))
	fmt.Println(errors.Is(err, digest.ErrMismatch))
	// Output: true
}

// A digest that was parsed can be used as a file name, whoever sent it.
func ExampleParse() {
	_, err := digest.Parse("sha256:../../etc/passwd")
	fmt.Println(errors.Is(err, digest.ErrMalformed))
	// Output: true
}

// The state of a Hasher can be saved, and hashing goes on later where it was.
func ExampleRestore() {
	h := digest.NewHasher(digest.SHA256)
	io.WriteString(h, "hel")
	state, err := h.MarshalBinary()
	if err != nil {
		fmt.Println(err)
		return
	}

	again, err := digest.Restore(digest.SHA256, state, h.Size())
	if err != nil {
		fmt.Println(err)
		return
	}
	io.WriteString(again, "lo\n")
	fmt.Println(again.Digest() == digest.FromBytes([]byte("hello\n")))
	// Output: true
}
