package recipe

import (
	"io"
	"sort"
	"sync"
)

// A Kin tells what a file has in common with others that are compressed too. Most encoders choose
// the same tokens for the same bytes, so there the tokens of the others foretell its own: without
// running the imitated encoder, and even if it is one that nobody imitates.
//
// A Kin is filled with [Kin.Add] while, or before, the file's contents are read; what Add said of
// bytes counts if it came before these were read.
type Kin struct {
	files []KinFile

	mu        sync.Mutex
	stretches []stretch // in their order
	unused    bool
}

// A KinFile is a file, whose contents of Size bytes stand behind those of the files before it. Open
// is called when Add has named some of them. It returns no index of a file that is not gzip; one that is
// still being made is waited for.
type KinFile struct {
	Size int64
	Open func() (io.ReaderAt, *Index)
}

// NewKin returns a Kin of these files, which the caller closes.
func NewKin(files ...KinFile) *Kin { return &Kin{files: files} }

// A stretch of the contents, n bytes from pos on, is in the contents of a file from at on.
type stretch struct {
	pos, n int64
	file   int
	at     int64
}

func (s stretch) end() int64 { return s.pos + s.n }

// leastStretch is how long a stretch must be to say anything of use.
const leastStretch = 64

// Add says that n bytes of the contents from pos on are those of the files from off on. Calls come in
// the order of pos, and may come from another goroutine than the one that runs the recipe.
func (k *Kin) Add(pos, n, off int64) {
	if n < leastStretch {
		return
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unused {
		return
	}

	for i, f := range k.files {
		if part := min(n, f.Size-off); part > 0 && off >= 0 {
			k.add(stretch{pos, part, i, off})
			pos, n, off = pos+part, n-part, 0
			if n == 0 {
				return
			}
			continue
		}
		off -= f.Size
	}
}

// add appends a stretch, or makes the last one longer.
func (k *Kin) add(s stretch) {
	if n := len(k.stretches); n > 0 {
		last := &k.stretches[n-1]
		if last.file == s.file && last.end() == s.pos && last.at+last.n == s.at {
			last.n += s.n
			return
		}
	}
	k.stretches = append(k.stretches, s)
}

// ignore drops what Add says.
func (k *Kin) ignore() {
	if k != nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.unused = true
	}
}

// take returns the stretches of n bytes from pos on, and forgets those before. Positions of calls
// only grow.
func (k *Kin) take(pos, n int64) []stretch {
	if k == nil {
		return nil
	}

	k.mu.Lock()
	defer k.mu.Unlock()
	first := sort.Search(len(k.stretches), func(i int) bool { return k.stretches[i].end() > pos })
	k.stretches = k.stretches[first:]
	end := sort.Search(len(k.stretches), func(i int) bool { return k.stretches[i].pos >= pos+n })
	list := make([]stretch, end)
	for i, s := range k.stretches[:end] {
		s.pos -= pos
		list[i] = s
	}
	return list
}

// A span is a part of a segment whose tokens are foretold by others.
type span struct {
	start, end int
	hints      []hint
}

// These bounds say where stretches count. An encoder that is imitated gets its state from the bytes
// before, so the other files are believed only where the same bytes fill the window. If no encoder
// is imitated, they are always better than nothing.
const (
	kinLead  = windowSize + 1<<10 // behind the begin of a stretch
	kinTail  = maxMatch + 64      // before its end
	kinLeast = windowSize         // what is left must be longer, as it costs to go back to the encoder
)

const (
	kinBudget = 32 << 20 // contents whose tokens are read for one segment
	kinUnits  = 16       // units whose tokens are kept meanwhile
)

// spans reads what the stretches of a segment foretell; with eager, of every one.
func (k *Kin) spans(s *segment, eager bool) ([]span, error) {
	if k == nil {
		return nil, errorf("segment %d: it needs what other files say", s.contentOf)
	}

	lead, tail, least := int64(kinLead), int64(kinTail), int64(kinLeast)
	if eager {
		lead, tail, least = 0, 0, leastStretch
	}

	r := &hintReader{k: k, budget: kinBudget, kept: map[unitOf][]hint{}}
	list := []span{}
	size := int64(s.end - s.start)
	for _, st := range s.stretches {
		from, to := max(st.pos+lead, 0), min(st.end()-tail, size)

		// A stretch that goes on behind the segment is as good as it is long.
		if whole := st.end() - tail - from; to <= from || whole < least && from > 0 {
			continue
		}

		sp := span{start: s.start + int(from), end: s.start + int(to)}
		at := st.at + from - st.pos
		ok, err := r.read(&sp, st.file, at, s.start+int(min(st.end(), size)))
		if err != nil {
			return nil, err
		}
		if ok {
			list = append(list, sp)
		}
	}

	return list, nil
}

// A hintReader reads matches of files, for one segment.
type hintReader struct {
	k      *Kin
	budget int64
	kept   map[unitOf][]hint
	order  []unitOf // of kept, the oldest first
}

type unitOf struct{ file, unit int }

// read fills a span with the matches of a file from at on, of which the last may cross the end of the
// span up to reach. It reports false if nothing is known of
// them, or if to find them would cost more than is allowed: a hostile file can be costly.
func (r *hintReader) read(sp *span, file int, at int64, reach int) (bool, error) {
	blob, x := r.k.files[file].Open()
	if x == nil {
		return false, nil
	}

	end := at + int64(sp.end-sp.start)
	u := x.upTo(end)
	unit := sort.Search(len(u.list), func(i int) bool { return u.list[i].pos > at }) - 1
	for ; unit >= 0 && unit < len(u.list) && u.list[unit].pos < end; unit++ {
		list, err := r.unit(blob, u, unitOf{file, unit})
		if err != nil {
			return false, err
		}

		// Places become those of the segment.
		shift := int(u.list[unit].pos-at) + sp.start
		i := sort.Search(len(list), func(i int) bool { return list[i].at+shift >= sp.start })
		for ; i < len(list) && list[i].at+shift < sp.end && list[i].at+shift+list[i].size() <= reach; i++ {
			sp.hints = append(sp.hints, hint{list[i].at + shift, list[i].token})
		}
	}

	return len(sp.hints) > 0, nil
}

// unit returns the matches of a unit.
func (r *hintReader) unit(blob io.ReaderAt, u units, key unitOf) ([]hint, error) {
	if list, ok := r.kept[key]; ok {
		return list, nil
	}

	cost := u.end(key.unit) - u.list[key.unit].pos
	if r.budget < cost {
		return nil, nil
	}

	r.budget -= cost
	list, err := u.matches(blob, key.unit)
	if err != nil {
		return nil, err
	}

	if len(r.order) == kinUnits {
		delete(r.kept, r.order[0])
		r.order = r.order[1:]
	}
	r.kept[key] = list
	r.order = append(r.order, key)
	return list, nil
}

// right reports whether most of the matches that are foretold are really in the segment.
func (s *segment) right(spans []span) bool {
	said, came := 0, 0
	pos := s.start
	i, k := 0, 0

	// The next hint is that of spans[i] with number k.
	hints := func() bool {
		for ; i < len(spans); i, k = i+1, 0 {
			if k < len(spans[i].hints) {
				return true
			}
		}
		return false
	}

	for e := range s.events {
		b := &s.events[e].block
		for _, t := range b.tokens {
			for hints() && spans[i].hints[k].at < pos {
				k++
				said++
			}
			if i < len(spans) && spans[i].hints[k].at == pos && spans[i].hints[k].token == t {
				came++
			}
			pos += t.size()
		}
		if b.kind == stored {
			pos += b.size
		}
	}

	return said > 0 && came > said-said/8
}

// A kinMatcher foretells by spans, and elsewhere by another matcher. The other matcher is brought
// to its state only when it is needed.
type kinMatcher struct {
	matcher
	spans []span
	span  int // the first that is not over
	hint  int // and its first hint that is not over

	data                      []byte
	history, start, end, unit int
	live                      bool // the matcher has its state
	mute                      bool // it is never asked
}

func (m *kinMatcher) begin(data []byte, history, start, end, unit int) {
	m.data, m.history, m.start, m.end, m.unit = data, history, start, end, unit
	m.live = false
}

func (m *kinMatcher) next(pos int) (at, n, dist int) {
	for pos < m.end {
		// Spans and hints that are over are passed.
		for m.span < len(m.spans) && m.spans[m.span].end <= pos {
			m.span, m.hint = m.span+1, 0
		}

		limit := m.end
		if m.span < len(m.spans) {
			limit = min(limit, m.spans[m.span].start)
		}
		if pos < limit {
			if at, n, dist := m.ask(pos); n > 0 && at < limit {
				return at, n, dist
			}
			pos = limit
			continue
		}

		// The matcher knows nothing of what comes now.
		m.live = false
		sp := &m.spans[m.span]
		for m.hint < len(sp.hints) && sp.hints[m.hint].at < pos {
			m.hint++
		}
		if m.hint < len(sp.hints) {
			h := sp.hints[m.hint]
			if h.at+h.size() > m.end {
				return m.end, 0, 0
			}
			return h.at, int(h.token >> matchShift), h.dist()
		}
		pos = sp.end
	}

	return m.end, 0, 0
}

// ask asks the matcher, which is first brought to its state at this place.
func (m *kinMatcher) ask(pos int) (at, n, dist int) {
	if m.mute {
		return m.end, 0, 0
	}
	if m.live {
		return m.matcher.next(pos)
	}

	// It begins a little before, as it may stand in the middle of a choice here.
	m.live = true
	from := max(m.start, pos-maxMatch)
	m.matcher.begin(m.data, max(m.history, from-windowSize), from, m.end, m.unit)
	for {
		at, n, dist = m.matcher.next(from)
		if at >= pos || n == 0 {
			return at, n, dist
		}
		if from = at + n; from > pos {
			m.matcher.follow(pos, 0, false)
			return m.matcher.next(pos)
		}
	}
}

// covers reports whether a place is in a span. It is one that next was just called for, or lies behind
// it.
func (m *kinMatcher) covers(pos int) bool {
	for m.span < len(m.spans) && m.spans[m.span].end <= pos {
		m.span, m.hint = m.span+1, 0
	}
	return m.span < len(m.spans) && m.spans[m.span].start <= pos
}

func (m *kinMatcher) follow(pos, n int, isMatch bool) {
	if m.live {
		m.matcher.follow(pos, n, isMatch)
	}
}
