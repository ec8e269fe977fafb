package display

import (
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/digest"
	"ocikit/oci/progress"
)

var (
	blobA = digest.FromBytes([]byte("a"))
	blobB = digest.FromBytes([]byte("b"))
)

var update = flag.Bool("update", false, "rewrite golden files")

const mib = 1 << 20

// at is an event and when it comes, in seconds.
type at struct {
	seconds float64
	event   progress.Event
}

var epoch = time.Unix(0, 0)

func after(seconds float64) time.Time {
	return epoch.Add(time.Duration(seconds * float64(time.Second)))
}

// stateOf applies events, with a look at the meters before each.
func stateOf(events []at) *progressState {
	s := new(progressState)
	for _, e := range events {
		s.sample(after(e.seconds))
		s.apply(e.event, after(e.seconds))
	}
	return s
}

func TestFrames(t *testing.T) {
	half := []at{
		{0, progress.Event{Kind: progress.Plan, Count: 3, Size: 41 * mib}},
		{0, progress.Event{Kind: progress.Start, Digest: blobA, Size: 20 * mib}},
		{0, progress.Event{Kind: progress.Resume, Digest: blobB, Size: 20 * mib, Offset: 10 * mib}},
		{1, progress.Event{Kind: progress.Bytes, Digest: blobA, Size: 20 * mib, Offset: 5 * mib}},
		{2, progress.Event{Kind: progress.Bytes, Digest: blobB, Size: 20 * mib, Offset: 12 * mib}},
	}
	file := []at{
		{0, progress.Event{Kind: progress.Start, Name: "dir/an-archive-with-a-long-name.tar", Size: 3 * mib}},
		{1, progress.Event{Kind: progress.Bytes, Name: "dir/an-archive-with-a-long-name.tar", Offset: mib}},
	}
	tests := []struct {
		name       string
		events     []at
		now        float64
		cols, rows int
	}{
		{"nothing yet", nil, 1, 80, 24},
		{"two of three blobs", half, 2, 80, 24},
		{"a wide terminal", half, 2, 120, 24},
		{"narrow", half, 2, 40, 24},
		{"narrower", half, 2, 30, 24},
		{"the narrowest that is of use", half, 2, 20, 24},
		{"too narrow", half, 2, 5, 24},
		{"3 rows", half, 2, 80, 3},
		{"1 row", half, 2, 80, 1},
		{"one file", file, 1, 80, 24},
		{"a size that nobody knows", []at{
			{0, progress.Event{Kind: progress.Start, Name: "standard input"}},
			{1, progress.Event{Kind: progress.Bytes, Name: "standard input", Offset: 1500 * mib}},
		}, 2, 80, 24},
		{"a size that nobody knows, narrow", []at{
			{0, progress.Event{Kind: progress.Start, Name: "standard input"}},
			{1, progress.Event{Kind: progress.Bytes, Name: "standard input", Offset: 1500 * mib}},
		}, 2, 20, 24},
		{"the last byte has passed", append(half, at{3, progress.Event{Kind: progress.Bytes, Digest: blobA, Size: 20 * mib, Offset: 20 * mib}}), 3, 80, 24},
		{"the last byte on a narrow one", append(half, at{3, progress.Event{Kind: progress.Commit, Digest: blobA, Size: 20 * mib, Offset: 20 * mib}}), 3, 30, 24},
		{"a retry, with what a registry said", append(half, at{3, progress.Event{Kind: progress.Retry, Digest: blobA, Text: "status 503: \"\x1b[31mbusy\""}}), 3, 100, 24},
		{"one is done, two need nothing", append(half,
			at{3, progress.Event{Kind: progress.Done, Digest: blobA, Size: 20 * mib, Text: "mounted"}},
			at{3, progress.Event{Kind: progress.Exists, Digest: digest.FromBytes([]byte("c")), Size: mib, Offset: mib}}), 3, 120, 24},
		{"a stopped task is forgotten", append(half, at{3, progress.Event{Kind: progress.Stop, Digest: blobA, Size: 20 * mib}}), 3, 80, 24},
		{"a name from outside", []at{{0, progress.Event{Kind: progress.Start, Name: "層\x1b]0;x\a.tar", Size: 10}}}, 1, 80, 24},
	}
	var got strings.Builder
	for _, tt := range tests {
		lines := stateOf(tt.events).frame(after(tt.now), tt.cols, tt.rows)
		fmt.Fprintf(&got, "# %s, %d columns\n", tt.name, tt.cols)
		for _, line := range lines {
			got.WriteString(line + "\n")
			if columns(line) >= tt.cols {
				t.Errorf("%s: line of %d columns: %q", tt.name, columns(line), line)
			}
		}
		if len(lines) > max(tt.rows-1, 1) {
			t.Errorf("%s: %d lines on a terminal of %d rows", tt.name, len(lines), tt.rows)
		}
	}
	const golden = "testdata/frames.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

// No frame is ever too wide or too high, and none panics.
func TestFrameFits(t *testing.T) {
	s := stateOf([]at{
		{0, progress.Event{Kind: progress.Plan, Count: 30, Size: 1 << 60}},
		{0, progress.Event{Kind: progress.Start, Digest: blobA, Size: 1 << 59}},
		{0, progress.Event{Kind: progress.Retry, Digest: blobA, Text: strings.Repeat("層", 50)}},
		{0, progress.Event{Kind: progress.Start, Name: strings.Repeat("層", 50)}},
		{1, progress.Event{Kind: progress.Bytes, Name: strings.Repeat("層", 50), Offset: 1 << 50}},
	})
	for cols := range 200 {
		for rows := range 6 {
			lines := s.frame(after(2), cols, rows)
			for _, line := range lines {
				if columns(line) > max(cols-1, 0) {
					t.Fatalf("%d columns: %q", cols, line)
				}
			}
			if len(lines) > max(rows-1, 1) {
				t.Fatalf("%d rows: %d lines", rows, len(lines))
			}
		}
	}
}

// A descriptor may say any size.
func TestEndOfTime(t *testing.T) {
	if got := (progressRow{at: 1, size: 1<<63 - 1, rate: 0.2}).eta(); got != ">4d" {
		t.Errorf("eta() = %q, want >4d", got)
	}
}

func TestRates(t *testing.T) {
	var m meter
	for i := range 100 { // 1 MiB/s for 10 s, then 4 MiB/s for 10 s
		off := int64(i) * mib / 5
		if i > 50 {
			off += int64(i-50) * mib * 3 / 5
		}
		m.add(after(float64(i)/5), off)
		if i == 50 || i == 99 {
			want := map[int]float64{50: mib, 99: 4 * mib}[i]
			if got := m.rate(after(float64(i)/5), off); got < want*0.99 || got > want*1.01 {
				t.Errorf("after %d samples: %.0f bytes/s, want %.0f", i, got, want)
			}
		}
	}
	m.add(after(21), 0) // back to the start
	if got := m.rate(after(22), 0); got != 0 {
		t.Errorf("after a new start: %f, want 0", got)
	}
}

// fakeTerminal is a terminal as tests see it: a screen of rows.
type fakeTerminal struct {
	mu         sync.Mutex
	cols, rows int
	claimed    bool // by another process
	screen     []string
	row, col   int
	unknown    string // the first code that is none of ours
}

func (f *fakeTerminal) Size() (int, int) { return f.cols, f.rows }
func (f *fakeTerminal) Claim() bool      { return !f.claimed }

// Write implements io.Writer for the codes that bars are made of.
func (f *fakeTerminal) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for s := string(p); s != ""; {
		var n, up int
		switch {
		case s[0] == '\n':
			f.row, f.col, n = f.row+1, 0, 1
		case s[0] == '\r':
			f.col, n = 0, 1
		case strings.HasPrefix(s, "\x1b[J"):
			f.screen = f.screen[:min(f.row+1, len(f.screen))]
			f.cut()
			n = 3
		case strings.HasPrefix(s, "\x1b[K"):
			f.cut()
			n = 3
		case s[0] == '\x1b':
			if k, _ := fmt.Sscanf(s, "\x1b[%dA", &up); k != 1 {
				f.unknown = s
			}
			n = strings.IndexByte(s, 'A') + 1
			f.row -= up
		default:
			f.put(s[0])
			n = 1
		}
		s = s[n:]
	}
	return len(p), nil
}

func (f *fakeTerminal) put(c byte) {
	for len(f.screen) <= f.row {
		f.screen = append(f.screen, "")
	}
	line := f.screen[f.row] + strings.Repeat(" ", max(f.col-len(f.screen[f.row]), 0))
	f.screen[f.row] = line[:f.col] + string(c) + line[min(f.col+1, len(line)):]
	f.col++
}

func (f *fakeTerminal) cut() {
	if f.row < len(f.screen) {
		f.screen[f.row] = f.screen[f.row][:min(f.col, len(f.screen[f.row]))]
	}
}

func (f *fakeTerminal) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return strings.TrimRight(strings.Join(f.screen, "\n"), "\n")
}

// A stage is the world of a view under test: a clock, a terminal, and ticks by hand.
type viewStage struct {
	*View
	term *fakeTerminal
	now  time.Time
}

func newStage() *viewStage {
	s := &viewStage{term: &fakeTerminal{cols: 60, rows: 10}, now: epoch}
	s.View = Start(Options{How: "auto", Out: s.term, Term: s.term, Now: func() time.Time { return s.now }})
	return s
}

func (s *viewStage) tickAt(seconds float64) {
	s.now = after(seconds)
	s.tick()
}

func (s *viewStage) notice(text string) { fmt.Fprintln(s, text) }

func TestBars(t *testing.T) {
	s := newStage()
	report := s.Report()
	s.notice("before")
	report(progress.Event{Kind: progress.Start, Digest: blobA, Size: 10 * mib})
	s.tickAt(0.4)
	if got := s.term.String(); got != "before" {
		t.Fatalf("after 0.4 s: %q: bars come too early", got)
	}
	s.tickAt(0.6)
	report(progress.Event{Kind: progress.Bytes, Digest: blobA, Size: 10 * mib, Offset: 5 * mib})
	s.tickAt(2)
	bar := "ca978112ca1b  50% 5.0/10.0 MiB    2.5 MiB/s     2s"
	if got := s.term.String(); got != "before\n"+bar {
		t.Fatalf("after 2 s:\n%s\nwant before and\n%s", got, bar)
	}
	s.notice("meanwhile")
	fmt.Fprint(s, "half a ")
	s.tickAt(2.1)
	fmt.Fprintln(s, "line")
	s.tickAt(2.2)
	if got, want := s.term.String(), "before\nmeanwhile\nhalf a line\nca978112ca1b  50%"; !strings.HasPrefix(got, want) {
		t.Fatalf("with notices:\n%s\nwant\n%s", got, want)
	}
	report(progress.Event{Kind: progress.Start, Digest: blobB, Size: mib})
	s.tickAt(2.3)
	report(progress.Event{Kind: progress.Done, Digest: blobA, Size: 10 * mib})
	report(progress.Event{Kind: progress.Done, Digest: blobB, Size: mib})
	s.tickAt(3)
	s.Stop(false)
	if got, want := s.term.String(), "before\nmeanwhile\nhalf a line\n2 done, 11.0 MiB in 3.0 s"; got != want {
		t.Errorf("at the end:\n%s\nwant\n%s", got, want)
	}
	if s.term.unknown != "" {
		t.Errorf("code %q", s.term.unknown)
	}
}

// What a registry takes in is shown while it lasts, and then forgotten: it may run for years.
func TestEndless(t *testing.T) {
	s := newStage()
	report := s.Endless()
	for range 3 {
		report(progress.Event{Kind: progress.Start, Name: "lib/app 0123456789ab", Size: 2 * mib})
		report(progress.Event{Kind: progress.Start, Name: "lib/app ba9876543210", Size: 2 * mib})
		s.tickAt(s.now.Sub(epoch).Seconds() + 1)
		if got := s.term.String(); !strings.Contains(got, "app 0123456789ab") || !strings.Contains(got, "total") {
			t.Fatalf("while it lasts:\n%s", got)
		}
		report(progress.Event{Kind: progress.Stop, Name: "lib/app 0123456789ab", Size: 2 * mib})
		report(progress.Event{Kind: progress.Done, Name: "lib/app ba9876543210", Size: 2 * mib})
		s.tickAt(s.now.Sub(epoch).Seconds() + 1)
		if got := s.term.String(); got != "" {
			t.Fatalf("afterwards:\n%s", got)
		}
	}
	if n := len(s.state.tasks); n != 0 {
		t.Errorf("%d tasks are kept", n)
	}
	s.Stop(false)
	if got := s.term.String(); got != "" {
		t.Errorf("at the end:\n%s", got)
	}
}

func TestBarsEnd(t *testing.T) {
	for _, tt := range []struct {
		name    string
		failed  bool
		summary string
		want    string
	}{
		{"well", false, "", "1.0 MiB in 1.0 s"},
		{"with a summary of the command", false, "all is done", "all is done"},
		{"with an error", true, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStage()
			s.event(progress.Event{Kind: progress.Start, Name: "f", Size: mib})
			s.tickAt(1)
			s.event(progress.Event{Kind: progress.Done, Name: "f", Size: mib})
			if tt.summary != "" {
				s.SumUp()
				s.notice(tt.summary)
			}
			s.Stop(tt.failed)
			if got := s.term.String(); got != tt.want {
				t.Errorf("screen %q, want %q", got, tt.want)
			}
		})
	}
}

// What another process prints on the same terminal stays, whether it comes between frames or
// before the end.
func TestBarsBesideAnother(t *testing.T) {
	term := &fakeTerminal{cols: 60, rows: 10}
	var b bars
	io.WriteString(term, b.draw([]string{"first", "second"}))
	io.WriteString(term, "ocikit tar: an error\n") // by somebody else
	io.WriteString(term, b.draw([]string{"1st", "2nd"}))
	if got, want := term.String(), "ocikit tar: an error\n1st\n2nd"; got != want {
		t.Errorf("screen %q, want %q", got, want)
	}
	io.WriteString(term, "ocikit layer: another\n")
	io.WriteString(term, b.erase())
	if got, want := term.String(), "ocikit tar: an error\nocikit layer: another"; got != want {
		t.Errorf("screen %q, want %q", got, want)
	}
	if term.unknown != "" {
		t.Errorf("code %q", term.unknown)
	}
}

// Of two processes on one terminal one draws, until it has ended.
func TestClaim(t *testing.T) {
	s := newStage()
	s.term.claimed = true
	s.event(progress.Event{Kind: progress.Start, Name: "f", Size: mib})
	s.tickAt(1)
	if got := s.term.String(); got != "" {
		t.Errorf("drawn on the terminal of another: %q", got)
	}
	s.term.claimed = false
	s.tickAt(2)
	if got := s.term.String(); !strings.HasPrefix(got, "f ") {
		t.Errorf("screen %q, want the bar of f", got)
	}
	s.Stop(true)
}

func TestPlainAndJSON(t *testing.T) {
	events := []at{
		{0, progress.Event{Kind: progress.Plan, Count: 2, Size: 3 * mib}},
		{0, progress.Event{Kind: progress.Start, Digest: blobA, Size: 2 * mib}},
		{0, progress.Event{Kind: progress.Start, Name: "small\x1b", Size: 10}},
		{0.5, progress.Event{Kind: progress.Bytes, Digest: blobA, Size: 2 * mib, Offset: mib}},
		{0.6, progress.Event{Kind: progress.Done, Name: "small\x1b", Size: 10}},
		{7, progress.Event{Kind: progress.Bytes, Digest: blobA, Size: 2 * mib, Offset: 2 * mib}},
		{8, progress.Event{Kind: progress.Done, Digest: blobA, Size: 2 * mib, Text: "uploaded"}},
		{8, progress.Event{Kind: progress.Tag, Digest: blobA, Text: "v1"}},
	}
	for how, want := range map[string]string{
		"plain": `2 blobs, 3.0 MiB
A start, 2.0 MiB
small\x1b done, 10 B
A at 1.0 MiB of 2.0 MiB, 170.7 KiB/s
A uploaded, 2.0 MiB
A is named v1
`,
		"json": `{"kind":"plan","size":3145728,"count":2}
{"kind":"start","digest":"A","size":2097152}
{"kind":"start","name":"small\u001b","size":10}
{"kind":"done","name":"small\u001b","size":10}
{"kind":"bytes","digest":"A","size":2097152,"offset":2097152}
{"kind":"done","digest":"A","size":2097152,"text":"uploaded"}
{"kind":"tag","digest":"A","text":"v1"}
`,
	} {
		var out strings.Builder
		now := epoch
		v := Start(Options{How: how, Out: &out, Now: func() time.Time { return now }})
		for _, ev := range events {
			if ev.seconds == 7 && how == "plain" {
				now = after(6)
				v.tick()
			}
			now = after(ev.seconds)
			v.event(ev.event)
		}
		v.Stop(false)
		got := strings.ReplaceAll(out.String(), blobA.String(), "A")
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", how, got, want)
		}
	}
}

// Bars, notices and the end come from several goroutines; the race detector looks on.
func TestProgressAtOnce(t *testing.T) {
	ticks := make(chan time.Time)
	term := &fakeTerminal{cols: 80, rows: 24}
	v := Start(Options{
		How: "auto", Out: term, Term: term, Now: time.Now,
		Ticker: func(time.Duration) (<-chan time.Time, func()) { return ticks, func() {} },
	})
	v.began = epoch
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			task := progress.NewTask(v.Report(), progress.Event{Name: fmt.Sprint("file", i), Size: 100 << 10})
			io.Copy(io.Discard, progress.Reader(strings.NewReader(strings.Repeat("x", 100<<10)), task))
			fmt.Fprintf(v, "notice %d\n", i)
		})
	}
	for range 5 {
		ticks <- epoch
	}
	wg.Wait()
	v.Stop(false)
	if got := term.String(); strings.Count(got, "notice") != 4 || strings.Contains(got, "total") {
		t.Errorf("screen:\n%s", got)
	}
}
