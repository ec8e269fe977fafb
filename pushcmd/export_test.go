package pushcmd

import (
	"context"
	"io"

	"ocikit/oci"
	"ocikit/oci/registry"
)

// UploadBlob brings one blob into a repository the way [Push] does. The bytes come from r.
func UploadBlob(ctx context.Context, c *registry.Client, repo string, desc oci.Descriptor, r io.ReaderAt, o Options) (Step, error) {
	return newPusher(c, nil, repo, o).sendFile(ctx, desc, r)
}
