package pushcmd

import (
	"context"
	"io"

	"ocikit/oci"
	"ocikit/oci/progress"
)

const (
	smallBlob    = 4 << 20   // up to here one PUT saves a request
	setBlob      = 128 << 20 // up to here it is saved among many images
	defaultChunk = 16 << 20
	smallChunk   = 4 << 20  // what a registry takes that calls a chunk too large
	proxyChunk   = 80 << 20 // what passes proxies that refuse a large body
	minChunk     = 256 << 10
)

// mode returns the mode to begin with.
func (p *pusher) mode(desc oci.Descriptor) Mode {
	limit := p.bodyLimit()
	switch {
	case limit > 0 && desc.Size > limit:
		return ModeChunk
	case p.o.Mode != ModeAuto:
		return p.o.Mode
	case p.o.ChunkSize > 0 && desc.Size > p.o.ChunkSize:
		return ModeChunk
	case desc.Size <= smallBlob:
		return ModePut

	// Many images make many requests. Where an upload can be resumed, registries keep the bytes of a
	// broken PUT as they do those of a PATCH, so none is sent again for this. A process that is to go on
	// with another one's upload finds it by the offsets of its PATCHes.
	case p.many && desc.Size <= setBlob && p.o.State == "":
		return ModePut
	}
	return ModeStream
}

// sendBlob uploads a blob of the source.
func (p *pusher) sendBlob(ctx context.Context, desc oci.Descriptor) (Step, error) {
	f, err := p.open(desc)
	if err != nil {
		return stepOf("upload", desc), err
	}
	defer f.Close()
	return p.sendFile(ctx, desc, f)
}

func (p *pusher) sendFile(ctx context.Context, desc oci.Descriptor, r io.ReaderAt) (Step, error) {
	t := newTask(p, desc, r)
	p.progress(progress.Event{Kind: "start", Digest: desc.Digest, Size: desc.Size})
	err := t.run(ctx)
	if err == nil {
		p.progress(progress.Event{Kind: "done", Digest: desc.Digest, Size: desc.Size, Text: t.step.Action})
	}
	return t.step, err
}
