package tarutil

import "fmt"

// DefaultMaxMemory is how many bytes of memory the names and headers of an input may take if no other
// budget is given. It is enough for an image of a million files, see [PathTable], and leaves room for
// buffers below the 256 MiB that the program promises.
const DefaultMaxMemory = 192 << 20

// A Budget bounds the memory that an input makes a program hold: a few compressed bytes can stand for a
// million names. Code that keeps something of an input takes about as many bytes from the Budget. A
// Budget is not safe for concurrent use.
type Budget struct{ left, limit int }

// NewBudget returns a budget of n bytes; 0 stands for [DefaultMaxMemory].
func NewBudget(n int) *Budget {
	if n <= 0 {
		n = DefaultMaxMemory
	}
	return &Budget{left: n, limit: n}
}

// Take takes n bytes. If there are not as many left, the error wraps [ErrTooMany] and names the limit.
func (b *Budget) Take(n int) error {
	if b.left -= n; b.left < 0 {
		return fmt.Errorf("%w: names and headers of over %d bytes of memory in all", ErrTooMany, b.limit)
	}
	return nil
}

// Used returns how many bytes were taken and not given back.
func (b *Budget) Used() int { return b.limit - b.left }

// Give gives n bytes back.
func (b *Budget) Give(n int) { b.left += n }

// RecordsMemory returns about how many bytes of memory PAX records need, with their map.
func RecordsMemory(records map[string]string) int {
	const each = 80
	return RecordsSize(records) + len(records)*each
}

// entryMemory is about how many bytes an entry to be sorted needs.
const entryMemory = 150

// maxXattrs is how many bytes the extended attributes of a tar may have together: all are kept in memory
// when trees are compared or applied.
const maxXattrs = 32 << 20

// A RecordsBudget counts the PAX records that are kept in memory, and refuses more of them
// than any image needs. Its zero value is ready for use.
type RecordsBudget struct{ used int }

// Take counts records. The error wraps [ErrMalformed] if there are too many with those before.
func (b *RecordsBudget) Take(records map[string]string) error {
	if b.used += RecordsSize(records); b.used > maxXattrs {
		return fmt.Errorf("%w: extended attributes of over %d bytes in all", ErrMalformed, maxXattrs)
	}
	return nil
}

// RecordsSize returns how many bytes the keys and values of PAX records have.
func RecordsSize(records map[string]string) int {
	n := 0
	for key, value := range records {
		n += len(key) + len(value)
	}
	return n
}
