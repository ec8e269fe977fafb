package tarutil

import (
	"archive/tar"
	"bytes"
	"errors"
	"strings"
	"testing"
)

// TestRecordsStayBehind looks at what a header keeps of a large extended header: nothing
// that lives in its memory.
func TestRecordsStayBehind(t *testing.T) {
	hdr := &tar.Header{Typeflag: tar.TypeDir, Name: "d", PAXRecords: map[string]string{
		XattrPrefix + "user.a": "v", "VENDOR.comment": strings.Repeat("c", 1000),
	}}
	var buf bytes.Buffer
	tw := tar.NewWriter(&buf)
	if err := errors.Join(tw.WriteHeader(hdr), tw.Close()); err != nil {
		t.Fatal(err)
	}
	in, err := NewEntryReader(t.Context(), &buf, ReadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	got, err := in.Next()
	if err != nil || len(got.PAXRecords) != 1 || got.Xattrs != nil {
		t.Errorf("records %q, attributes %q, %v: want one record", got.PAXRecords, got.Xattrs, err)
	}
}
