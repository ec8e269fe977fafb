package gzip

import (
	"bytes"
	"fmt"
	"sync"
)

// random is a generator whose numbers never change.
type random uint64

func (r *random) next() uint64 {
	*r += 0x9E3779B97F4A7C15
	x := uint64(*r)
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}

func (r *random) below(n int) int { return int(r.next() >> 1 % uint64(n)) }

// noise returns n bytes which do not compress.
func noise(n int) []byte {
	r := random(1)
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.next() >> 56)
	}
	return b
}

// text returns n bytes like words, the short ones more often.
func text(n int) []byte {
	r := random(2)
	words := make([][]byte, 4000)
	for i := range words {
		w := make([]byte, 2+r.below(4)+r.below(5))
		for j := range w {
			w[j] = "etaoinshrdlucmfwypvbgkjqxz"[min(r.below(26), r.below(26))]
		}
		words[i] = w
	}
	var b bytes.Buffer
	for b.Len() < n {
		k := min(r.below(len(words)), r.below(len(words)), r.below(len(words)))
		b.Write(words[k])
		b.WriteByte(" \n,"[max(r.below(40)-37, 0)])
	}
	return b.Bytes()[:n]
}

// machine returns n bytes like machine code and tables: records with few changes, runs of
// zeros, and copies from far back.
func machine(n int) []byte {
	r := random(3)
	b := make([]byte, 0, n+4096)
	rec := make([]byte, 24)
	for len(b) < n {
		switch r.below(8) {
		case 0:
			b = append(b, make([]byte, r.below(600))...)
		case 1:
			if len(b) > 50000 {
				from := len(b) - 1 - r.below(50000)
				b = append(b, b[from:min(from+r.below(300), len(b))]...)
			}
		default:
			for range r.below(30) {
				rec[r.below(24)] = byte(r.next() >> (56 + uint(r.below(8))))
				b = append(b, rec...)
			}
		}
	}
	return b[:n]
}

// mixed returns n bytes which change their kind now and then, as files in a tar do.
func mixed(n int) []byte {
	r := random(4)
	all := [][]byte{text(n), machine(n), noise(n), make([]byte, n)}
	b := make([]byte, 0, n+100000)
	for len(b) < n {
		kind, size := all[min(r.below(4), r.below(4))], r.below(70000)
		from := r.below(n)
		b = append(b, kind[from:min(from+size, n)]...)
	}
	return b[:n]
}

type sample struct {
	name string
	data []byte
}

// samples are the inputs of golden digests and round trips. They are made once, and no test
// changes them.
var samples = sync.OnceValue(func() []sample {
	const edge = blockSize
	s := []sample{
		{"empty", nil},
		{"one", []byte("x")},
		{"short", []byte("ocikit, ocikit")},
		{"text", text(600000)},
		{"binary", machine(600000)},
		{"zeros", make([]byte, 1<<20)},
		{"noise", noise(500000)},
		{"mixed", mixed(1 << 20)},
	}
	for _, n := range []int{edge - 1, edge, edge + 1, windowSize, maxStored, maxStored + 1} {
		s = append(s, sample{fmt.Sprintf("text-%d", n), text(n)})
	}
	for n := range 20 { // the end of the input within what parsers read at once
		s = append(s, sample{fmt.Sprintf("period-%d", n), bytes.Repeat([]byte("abcde"), 5)[:n+1]})
	}
	return s
})
