package commonflags

import (
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

// TestMarkNotice has two marks of an overlay: one notice is enough, and names the first.
func TestMarkNotice(t *testing.T) {
	for _, test := range []struct{ attribute, want string }{
		{"", `ocikit: "upper/gone" is a device 0:0, a mark of an overlay`},
		{"trusted.overlay.opaque", `ocikit: "upper/gone" has the attribute trusted.overlay.opaque, a mark of an overlay`},
	} {
		var out strings.Builder
		tell := markNotice(&cli.Env{Stderr: &out})
		tell("upper/gone", test.attribute)
		tell("upper/other", "")
		if got := out.String(); !strings.HasPrefix(got, test.want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%q: got %q, want one line: %q", test.attribute, got, test.want)
		}
	}
}
