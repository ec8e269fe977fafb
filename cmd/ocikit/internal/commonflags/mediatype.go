package commonflags

import (
	"errors"
	"flag"

	"ocikit/oci"
)

// BindMediaType declares a flag for a media type, which is checked: tools that compare types take one
// with a blank behind it for another.
func BindMediaType(fs *flag.FlagSet, name, usage string) *string {
	t := new(string)
	fs.Var((*mediaType)(t), name, usage)
	return t
}

type mediaType string

func (t *mediaType) String() string { return string(*t) }

func (t *mediaType) Set(s string) error {
	if oci.CheckMediaType(s) != nil {
		return errors.New("it is not a media type, as type/subtype")
	}
	*t = mediaType(s)
	return nil
}
