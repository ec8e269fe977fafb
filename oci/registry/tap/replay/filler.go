package replay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"io"

	"ocikit/digest"
)

// A filler holds bytes that stand for those of a blob, without an end. They depend on the digest and
// the offset alone, so chunks fit together. They cannot be compressed, so nothing on the way makes
// them smaller.
type filler struct{ block cipher.Block }

// fill returns the bytes from start up to end of what stands for d.
func fill(d string, start, end int64) *io.SectionReader {
	key := sha256.Sum256([]byte(d))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	return io.NewSectionReader(filler{block}, start, end-start)
}

// ReadAt implements io.ReaderAt. The stream is that of AES in counter mode, from the block in which
// the offset lies.
func (f filler) ReadAt(p []byte, pos int64) (int, error) {
	clear(p)
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(pos/aes.BlockSize))
	stream := cipher.NewCTR(f.block, iv[:])
	var skip [aes.BlockSize]byte
	stream.XORKeyStream(skip[:pos%aes.BlockSize], skip[:pos%aes.BlockSize])
	stream.XORKeyStream(p, p)
	return len(p), nil
}

// filled returns the digest of the bytes that stand for a blob of a size.
func filled(d digest.Digest, size int64) digest.Digest {
	h := digest.NewHasher(d.Algorithm())
	io.CopyBuffer(struct{ io.Writer }{h}, fill(d.String(), 0, size), make([]byte, 64<<10))
	return h.Digest()
}
