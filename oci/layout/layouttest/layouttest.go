// Package layouttest makes layouts for the tests of packages that use layouts.
package layouttest

import (
	"path/filepath"
	"testing"

	"ocikit/oci/layout"
)

// New returns an empty layout, which ends with the test.
func New(t testing.TB) *layout.Layout {
	t.Helper()
	l, err := layout.Init(filepath.Join(t.TempDir(), "layout"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// MustVerify ends the test unless all that is in l is whole.
func MustVerify(t testing.TB, l *layout.Layout) {
	t.Helper()
	findings, _, err := l.Verify(t.Context(), layout.VerifyOptions{})
	if err != nil || len(findings) > 0 {
		t.Fatalf("Verify = %+v, %v", findings, err)
	}
}
