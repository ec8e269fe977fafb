package tarutil

import (
	"archive/tar"
	"bytes"
	"strings"
	"testing"

	"ocikit/tarutil/internal/tartest"
)

// TestRecordsStayBehind looks at what a header keeps of a large extended header: nothing
// that lives in its memory.
func TestRecordsStayBehind(t *testing.T) {
	data := tartest.Tar(t, tartest.Entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: "d", PAXRecords: map[string]string{
		XattrPrefix + "user.a": "v", "VENDOR.comment": strings.Repeat("c", 1000),
	}}})
	in, err := NewEntryReader(t.Context(), bytes.NewReader(data), ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := in.Next()
	if err != nil || len(got.PAXRecords) != 1 || got.Xattrs != nil {
		t.Errorf("records %q, attributes %q, %v: want one record", got.PAXRecords, got.Xattrs, err)
	}
}
