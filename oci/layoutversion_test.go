package oci

import (
	"errors"
	"testing"
)

func TestCheckLayoutVersion(t *testing.T) {
	for version, want := range map[string]error{
		"1.0.0": nil, "1.1.0": nil, "1.12.3": nil,
		"9.9.9": ErrMalformed, "2.0.0": ErrMalformed, "10.0.0": ErrMalformed, "0.1.0": ErrMalformed,
		"": ErrMalformed, "1": ErrMalformed, "1.0": ErrMalformed, "1.0.0.0": ErrMalformed,
		"1.0.x": ErrMalformed, "1..0": ErrMalformed, "v1.0.0": ErrMalformed,
	} {
		if err := CheckLayoutVersion([]byte(`{"imageLayoutVersion":"` + version + `"}`)); !errors.Is(err, want) {
			t.Errorf("version %q: %v, want %v", version, err, want)
		}
	}
	if err := CheckLayoutVersion([]byte(`{"imageLayoutVersion":1}`)); err == nil {
		t.Error("a number is taken for a version")
	}
}
