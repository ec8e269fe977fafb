package serve

import (
	"net/http"
	"testing"
)

// What is accepted as a chunk's range is one, and it is as long as the body.
func FuzzParseSpan(f *testing.F) {
	for _, s := range []string{"0-0", "5-4", "0-9223372036854775807", "bytes 0-1/2", "1-18446744073709551616"} {
		f.Add(s, int64(1))
	}
	f.Fuzz(func(t *testing.T, value string, length int64) {
		sp, err := parseSpan(&http.Request{Header: http.Header{"Content-Range": {value}}, ContentLength: length})
		if err == nil && (!sp.given || sp.start < 0 || sp.end < sp.start || sp.length() <= 0 || length >= 0 && sp.length() != length) {
			t.Errorf("parseSpan(%q) = %+v", value, sp)
		}
	})
}
