package oci

import (
	"fmt"
	"strings"
)

// LayoutVersion is the version of the layouts that are written here (image-layout.md, "oci-layout file").
const LayoutVersion = "1.0.0"

// CheckLayoutVersion checks the file oci-layout. A layout of another version than 1.x.y gives an error
// that wraps [ErrMalformed]: by the rules of such versions, one that readers of 1.0.0 would misread has
// another number in front.
func CheckLayoutVersion(data []byte) error {
	var v struct {
		Version string `json:"imageLayoutVersion"`
	}
	if err := Decode(data, &v); err != nil {
		return err
	}

	isNumber := func(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
	parts := strings.Split(v.Version, ".")
	if len(parts) != 3 || parts[0] != "1" || !isNumber(parts[1]) || !isNumber(parts[2]) {
		return fmt.Errorf("imageLayoutVersion %q, want 1.x.y: %w", v.Version, ErrMalformed)
	}
	return nil
}
