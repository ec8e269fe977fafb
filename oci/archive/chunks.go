package archive

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"

	"ocikit/digest"
	"ocikit/oci"
	"ocikit/oci/graph"
	"ocikit/oci/source"
	"ocikit/tarutil"
	"ocikit/tarutil/delta"
)

const (
	chunkMark     = "+"     // begins a line with chunks of the layer in the line before
	chunksPerLine = 1000    // each takes 11 bytes at most
	maxChunks     = 8 << 20 // of all layers in an inventory, for memory
)

// AddChunks adds the chunks of the layers of images in src, which it reads and uncompresses. A
// layer gets none if its compression cannot be read here, or if the inventory would then have more
// chunks than its readers take. An error of ctx ends it.
func (inv *Inventory) AddChunks(ctx context.Context, src source.Source) error {
	return inv.addChunks(ctx, src, maxChunks)
}

func (inv *Inventory) addChunks(ctx context.Context, src source.Source, limit int) error {
	for _, it := range inv.Items {
		limit -= len(it.Chunks)
	}

	x, err := src.Index()
	if err != nil {
		return err
	}

	return graph.Scan(src, x.Manifests, func(n graph.Node) error {
		i, ok := inv.find(n.Desc.Digest)
		if n.Err != nil || !ok || !oci.IsLayer(n.Desc.MediaType) || inv.Items[i].Chunks != nil {
			return context.Cause(ctx)
		}
		chunks, err := chunksOf(ctx, src, n.Desc, limit)
		if tarutil.IsUnsupported(err) || errors.Is(err, graph.ErrNotFound) || errors.Is(err, errChunks) {
			return nil
		}
		inv.Items[i].Chunks = chunks
		limit -= len(chunks)
		return err
	})
}

// errChunks means that an inventory has more chunks than its limit.
var errChunks = errors.New("too many chunks")

func chunksOf(ctx context.Context, src source.Source, desc oci.Descriptor, limit int) ([]delta.Chunk, error) {
	r, err := src.Blob(desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()

	plain, _, err := tarutil.Decompress(r)
	if err != nil {
		return nil, err
	}

	var list []delta.Chunk
	err = delta.Chunks(ctx, plain, func(c delta.Chunk) error {
		if len(list) >= limit {
			return errChunks
		}
		list = append(list, c)
		return nil
	})

	return list, err
}

// writeChunks writes chunks as lines: the mark, and in base64 the size of each as a varint and
// its sum.
func writeChunks(out *bufio.Writer, chunks []delta.Chunk) {
	for len(chunks) > 0 {
		line := chunks[:min(len(chunks), chunksPerLine)]
		chunks = chunks[len(line):]
		var b []byte
		for _, c := range line {
			b = binary.AppendUvarint(b, uint64(c.Size))
			b = binary.BigEndian.AppendUint64(b, c.Sum)
		}
		fmt.Fprintf(out, "%s %s\n", chunkMark, base64.RawStdEncoding.EncodeToString(b))
	}
}

// addChunks adds the chunks of a line, as writeChunks writes it, to the item of the line
// before, limit of them at most, and returns how many they are.
func addChunks(items map[digest.Digest]Item, of digest.Digest, fields []string, limit int) (int, error) {
	it, ok := items[of]
	if !ok || len(fields) != 2 {
		return 0, errors.New("chunks of no layer")
	}

	b, err := base64.RawStdEncoding.DecodeString(fields[1])
	if err != nil {
		return 0, fmt.Errorf("chunks: %w", err)
	}

	added := 0
	for ; len(b) > 0; added++ {
		size, n := binary.Uvarint(b)
		if n <= 0 || len(b) < n+8 || size == 0 || size > delta.MaxChunk {
			return 0, errors.New("damaged chunks")
		}
		if added == limit {
			return 0, errChunks
		}
		it.Chunks = append(it.Chunks, delta.Chunk{Size: int(size), Sum: binary.BigEndian.Uint64(b[n:])})
		b = b[n+8:]
	}

	items[of] = it
	return added, nil
}
