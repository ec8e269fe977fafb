package replay

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"

	"ocikit/digest"
)

// A filler reads bytes that stand for those of a blob. They depend on the digest and the offset alone,
// so chunks fit together. They cannot be compressed, so nothing on the way makes them smaller.
type filler struct {
	block      cipher.Block
	start, end int64 // of the part that is read
	at         int64 // within the part
}

// fill returns the bytes from start up to end of what stands for d.
func fill(d string, start, end int64) *filler {
	key := sha256.Sum256([]byte(d))
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic(err) // the key has 32 bytes
	}
	return &filler{block: block, start: start, end: end}
}

func (f *filler) Read(p []byte) (int, error) {
	left := f.end - f.start - f.at
	if left <= 0 {
		return 0, io.EOF
	}

	p = p[:min(int64(len(p)), left)]
	clear(p)

	// The stream is that of AES in counter mode, from the block in which the offset lies.
	pos := f.start + f.at
	var iv [aes.BlockSize]byte
	binary.BigEndian.PutUint64(iv[8:], uint64(pos/aes.BlockSize))
	stream := cipher.NewCTR(f.block, iv[:])
	var skip [aes.BlockSize]byte
	stream.XORKeyStream(skip[:pos%aes.BlockSize], skip[:pos%aes.BlockSize])
	stream.XORKeyStream(p, p)
	f.at += int64(len(p))
	return len(p), nil
}

func (f *filler) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.end - f.start
	}
	if offset < 0 {
		return 0, errors.New("seek before the beginning")
	}
	f.at = offset
	return offset, nil
}

// filled returns the digest of the bytes that stand for a blob of a size.
func filled(d digest.Digest, size int64) digest.Digest {
	h := digest.NewHasher(d.Algorithm())
	io.CopyBuffer(struct{ io.Writer }{h}, fill(d.String(), 0, size), make([]byte, 64<<10))
	return h.Digest()
}
