package commonflags

import (
	"flag"

	"ocikit/oci/graph"
)

// Sparse declares the flag of commands that carry images: what an index names may be absent.
func Sparse(fs *flag.FlagSet, rules *graph.Rules) {
	fs.BoolVar(&rules.Sparse, "sparse", false, "images that an index names may be absent; the others are taken")
}
