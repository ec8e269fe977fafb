package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// Some registries, and the storage behind them, give each connection a part of what the line
// carries. A large blob then comes faster over several, in ranges. Whether it does is tried, not
// assumed: the first connection asks for the whole blob, and if that is slow for the network's
// sake, a few ranges from further on show what more connections are worth.
const (
	rangeSize    = 4 << 20 // of one request
	rangedRest   = 16 << 20
	rangesTried  = 3 // beside the first connection, in the trial
	rangesAhead  = 7 // when that paid
	rangesHeld   = 8 // of all blobs of a Client together: 32 MiB
	trialBytes   = 256 << 10
	trialTime    = 200 * time.Millisecond
	trialMost    = 5 * time.Second // where even trialBytes take long
	worthWhile   = 1.5             // times the speed of one connection
	mostlyWaited = 0.5             // of the time; otherwise the disk or the digest is what takes long
)

// A verdict says whether ranges are worth it.
type verdict int

const (
	unknown verdict = iota
	trying
	paying
	useless
)

// A rangedReader reads a blob in order: what comes over the first connection, then what was
// fetched ahead. Whatever is wrong with a range, it goes on over one connection as before.
type rangedReader struct {
	*resumer
	ctx    context.Context
	cancel context.CancelFunc

	verdict verdict
	ahead   []*blobRange // in order, without gaps; the first begins where the connection ends
	current *bytes.Reader

	start   time.Time     // of the first Read
	waited  time.Duration // for the first connection
	first   int64         // bytes that came over it
	alone   float64       // bytes in a second, of the first connection before the trial
	trial   time.Time
	before  int64 // bytes of the first connection when the trial began
	arrived atomic.Int64
	ranged  bool // bytes of a range were handed out
}

// A blobRange is a part of a blob that is fetched ahead.
type blobRange struct {
	offset, size int64
	room         []byte // of rangeSize bytes, goes back to the Client
	data         []byte // of room
	err          error
	done         chan struct{}
}

func (b *blobRange) end() int64 { return b.offset + b.size }

func newRangedReader(ctx context.Context, b *resumer) *rangedReader {
	r := &rangedReader{resumer: b}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

// Ranged reports whether bytes came in ranges. If they turn out to be wrong, that may be why.
func (r *rangedReader) Ranged() bool { return r.ranged }

// Read returns the next bytes, from the range that begins there or from the first connection.
func (r *rangedReader) Read(p []byte) (int, error) {
	r.consider()
	if r.current == nil && len(r.ahead) > 0 && r.ahead[0].offset == r.at {
		r.take()
	}

	// A range that is here is read from memory. drop makes room for another as soon as it is
	// used up.
	if r.current != nil {
		n, _ := r.current.Read(p)
		r.at += int64(n)
		if r.current.Len() == 0 {
			r.drop()
		}
		return n, nil
	}

	if r.body == nil && r.at >= r.desc.Size {
		return 0, io.EOF // the last bytes were those of a range
	}

	// The first connection is left where the first range begins.
	if len(r.ahead) > 0 {
		p = p[:min(int64(len(p)), r.ahead[0].offset-r.at)]
	}

	// Only the time within Read is waiting for the network; the rest is the caller's disk and
	// digest.
	began := r.c.o.Now()
	n, err := r.resumer.Read(p)
	r.waited += r.c.o.Now().Sub(began)
	r.first += int64(n)
	if err == nil && len(r.ahead) > 0 && r.ahead[0].offset == r.at {
		r.leave()
	}

	return n, err
}

// leave ends the first connection.
func (r *rangedReader) leave() {
	if r.body != nil {
		r.body.Close()
		r.body = nil
	}
}

// consider decides whether ranges pay, and asks for those that are wanted.
func (r *rangedReader) consider() {
	now := r.c.o.Now()
	if r.start.IsZero() {
		r.start = now // a blob may be asked for long before it is read
	}

	// The first connection alone is measured first. Then a few ranges run beside it, and what
	// came over all of them in that time is compared with its speed alone. trialMost ends a
	// trial in which hardly a byte comes.
	switch {
	case r.verdict == unknown && r.first >= trialBytes && now.Sub(r.start) >= trialTime:
		// Little is left, the network is not what takes long, or ranges were wrong before. Blobs that go
		// on to another registry side by side have several connections without ranges, and wait for
		// one another: ranges would only fill memory there.
		if r.c.placed.Load() > 1 || r.desc.Size-r.at < rangedRest || r.waited.Seconds() < mostlyWaited*now.Sub(r.start).Seconds() || r.c.oneConnection.Load() {
			r.verdict = useless
			return
		}
		r.verdict, r.trial, r.before = trying, now, r.first
		r.alone = float64(r.first) / now.Sub(r.start).Seconds()
		r.fetch(rangesTried)
	case r.verdict == trying && now.Sub(r.trial) >= trialTime && (r.first-r.before+r.arrived.Load() >= trialBytes || now.Sub(r.trial) >= trialMost):
		together := float64(r.first-r.before+r.arrived.Load()) / now.Sub(r.trial).Seconds()
		r.verdict = useless
		if together >= worthWhile*r.alone {
			r.verdict = paying
		}
	}

	if r.verdict == paying {
		r.fetch(rangesAhead)
	}
}

// fetch asks for ranges until so many are on their way or here, as far as there is room.
func (r *rangedReader) fetch(n int) {
	for len(r.ahead) < n {
		// The first connection goes on until its next bytes are those of a range. What it may
		// have on its way already is left to it.
		from := r.at + rangeSize
		if k := len(r.ahead); k > 0 {
			from = r.ahead[k-1].end()
		} else if r.body == nil {
			from = r.at
		}

		if from >= r.desc.Size {
			return
		}

		// Ranges are whole in memory, so all blobs of the Client share a fixed number of them.
		// Nobody waits for one here: what cannot be fetched ahead comes over the first
		// connection.
		b := &blobRange{offset: from, size: min(rangeSize, r.desc.Size-from), done: make(chan struct{})}
		select {
		case b.room = <-r.c.held:
		default:
			return
		}

		// The room is used again and again: as garbage it would be several times as much memory.
		if b.room == nil {
			b.room = make([]byte, rangeSize)
		}

		r.ahead = append(r.ahead, b)
		go func() {
			defer close(b.done)
			b.err = r.fill(b)
		}()
	}
}

// take makes the first range the next to be read. One that failed ends the ranges.
func (r *rangedReader) take() {
	b := r.ahead[0]
	<-b.done
	if b.err == nil {
		r.current, r.ranged = bytes.NewReader(b.data), true
		return
	}

	// One bad range ends the trial for this blob: the first connection is made again at r.at.
	if !errors.Is(b.err, context.Canceled) {
		r.c.conn.Notice(fmt.Sprintf("blob %s: going on over one connection: %v", r.desc.Digest, b.err))
	}
	r.verdict = useless
	r.abandon()
}

// drop gives up the first range, which was read or failed.
func (r *rangedReader) drop() {
	room := r.ahead[0].room
	r.current, r.ahead = nil, r.ahead[1:]
	r.c.held <- room
}

// abandon gives up all ranges, and returns when none of them holds memory any more.
func (r *rangedReader) abandon() {
	r.cancel()
	for len(r.ahead) > 0 {
		<-r.ahead[0].done
		r.drop()
	}
}

// Close ends all connections, and waits for those of the ranges.
func (r *rangedReader) Close() error {
	r.abandon()
	return r.resumer.Close()
}

// fill reads the bytes of a range. An answer that is not exactly that part of the blob is an error.
func (r *rangedReader) fill(b *blobRange) error {
	b.data = b.room[:b.size]
	body, err := r.c.getBlob(r.ctx, r.repo, r.desc.Digest, b.offset, b.offset+b.size-1)
	if err != nil {
		return err
	}
	defer body.Close()

	if body.Offset != b.offset || body.Size >= 0 && body.Size != r.desc.Size {
		return fmt.Errorf("blob %s: %w: asked for %d bytes from %d on, got others", r.desc.Digest, ErrProtocol, b.size, b.offset)
	}

	// Not io.ReadFull: arrived has to grow while the bytes come, for the trial to measure their
	// speed.
	for n := 0; int64(n) < b.size; {
		k, err := body.Read(b.data[n:])
		n += k
		r.arrived.Add(int64(k))
		if err != nil && int64(n) < b.size {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}

	return nil
}

// OneConnection makes later blobs of the Client come over one connection each. It is for a caller
// that got wrong bytes from a reader whose Ranged method returns true, see [Client.ResumeBlob].
func (c *Client) OneConnection() { c.oneConnection.Store(true) }
