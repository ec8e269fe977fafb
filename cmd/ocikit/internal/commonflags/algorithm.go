package commonflags

import (
	"flag"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/digest"
)

// Algorithm declares the flag that says how what is stored is hashed.
func Algorithm(fs *flag.FlagSet) *digest.Algorithm {
	return (*digest.Algorithm)(cli.Choice(fs, "algorithm", "sha256", "hash with `NAME`", "sha256", "sha512"))
}
