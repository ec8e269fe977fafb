package operands

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Where another took the name meanwhile, that one stays, nothing is left of ours, and the error says
// nothing of the name that it had until then.
func TestNameIsTaken(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "new")
	err := IntoEmptyDir(name, func(root *os.Root) error {
		if err := root.MkdirAll("closed/deep", 0o755); err != nil {
			return err
		}

		// What a tar holds may be closed to its owner; root does not notice.
		if err := root.Chmod("closed", 0o500); err != nil {
			return err
		}
		if err := root.Chmod(".", 0); err != nil {
			return err
		}
		return os.WriteFile(name, []byte("other"), 0o644)
	})
	if err == nil || strings.Contains(err.Error(), ".ocikit-") || strings.Contains(err.Error(), "rename") {
		t.Errorf("error %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "new" {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
