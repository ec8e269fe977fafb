package rangecoder

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// A model learns, so that what it expects is nearly free.
func ExampleCoder() {
	walk := func(c *Coder, numbers []uint32) []uint32 {
		var model Number
		model.Reset()
		for i := range numbers {
			numbers[i] = c.Number(&model, numbers[i])
		}
		return numbers
	}
	numbers := make([]uint32, 1000)
	for i := range numbers {
		numbers[i] = 7
	}
	w := NewWriter(nil)
	walk(w, numbers)
	data := w.Finish()
	got := walk(NewReader(data), make([]uint32, 1000))
	fmt.Println(len(data) < 100, got[999])
	// Output: true 7
}

// models are one of each kind.
type models struct {
	bit    [4]Prob
	tree   [256]Prob
	number Number
	guided [768]Prob
}

func (m *models) reset() {
	ResetAll(m.bit[:])
	ResetAll(m.tree[:])
	m.number.Reset()
	ResetAll(m.guided[:])
}

type decision struct {
	kind  int
	value uint32
	guess byte
}

func (m *models) code(c *Coder, d decision) uint32 {
	switch d.kind {
	case 0, 1, 2, 3:
		return uint32(c.Bit(&m.bit[d.kind], int(d.value&1)))
	case 4:
		return uint32(c.Tree(m.tree[:], int(d.value&255), 8))
	case 5:
		return c.Raw(d.value&0xfffff, 20)
	case 6:
		return uint32(c.Guided(&m.guided, byte(d.value), d.guess))
	}
	return c.Number(&m.number, d.value)
}

func (d decision) want() uint32 {
	switch d.kind {
	case 0, 1, 2, 3:
		return d.value & 1
	case 4, 6:
		return d.value & 255
	case 5:
		return d.value & 0xfffff
	}
	return d.value
}

func TestRoundTrip(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		list := make([]decision, r.IntN(3000))
		skew := r.IntN(33)
		for i := range list {
			list[i] = decision{kind: r.IntN(8), value: r.Uint32() >> skew}
			list[i].guess = byte(list[i].value) ^ byte(1<<r.IntN(9))
		}
		var m models
		m.reset()
		w := NewWriter([]byte("head"))
		for _, d := range list {
			m.code(w, d)
		}
		data := w.Finish()[4:]
		m.reset()
		c := NewReader(data)
		for i, d := range list {
			if got := m.code(c, decision{kind: d.kind, guess: d.guess}); got != d.want() {
				t.Fatalf("seed %d: decision %d of %d: got %d, want %d", seed, i, len(list), got, d.want())
			}
		}
		if c.Overrun() {
			t.Errorf("seed %d: overrun after %d of %d bytes", seed, c.pos, len(data))
		}
	}
}

// A carry may run through many bytes of 0xff.
func TestCarry(t *testing.T) {
	for n := range 40 {
		w := NewWriter(nil)
		for range n {
			w.Raw(0xff, 8)
		}
		var p Prob
		p.Reset()
		for range 30 {
			w.Bit(&p, 1)
		}
		c := NewReader(w.Finish())
		p.Reset()
		for i := range n {
			if got := c.Raw(0, 8); got != 0xff {
				t.Fatalf("%d: byte %d is %#x", n, i, got)
			}
		}
		for range 30 {
			if c.Bit(&p, 0) != 1 {
				t.Fatalf("%d: a bit is lost", n)
			}
		}
	}
}

func TestOverrun(t *testing.T) {
	c := NewReader([]byte{1, 2, 3})
	for range 200 {
		c.Raw(0, 8)
	}
	if !c.Overrun() {
		t.Error("200 bytes read of 3")
	}
}
