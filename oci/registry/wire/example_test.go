package wire_test

import (
	"fmt"
	"net/http"
	"strings"

	"ocikit/oci/registry/wire"
)

// Registries write in many ways how many bytes of an upload they have.
func ExampleParseRange() {
	for _, s := range []string{"0-99", "bytes=0-99", "0--1", "0-0", "10-99"} {
		n, ambiguous, ok := wire.ParseRange(s)
		fmt.Println(s, n, ambiguous, ok)
	}
	// Output:
	// 0-99 100 false true
	// bytes=0-99 100 false true
	// 0--1 0 false true
	// 0-0 1 true true
	// 10-99 0 false false
}

// What is hidden never appears in text, in none of its spellings.
func ExampleRedactor() {
	var red wire.Redactor
	red.Hide("s3cret/word")
	fmt.Println(red.Text("you sent s3cret/word, or s3cret%2Fword"))
	// Output: you sent REDACTED, or REDACTED
}

// A refusal is classed by what it says, not by its status alone.
func ExampleStatusError_RateLimited() {
	e := &wire.StatusError{Method: http.MethodGet, URL: "https://r.test/v2/", Status: http.StatusForbidden, Body: "You have exceeded a secondary rate limit."}
	fmt.Println(e.RateLimited(), e.Retryable(), strings.Contains(e.Error(), "403"))
	// Output: true true true
}
