// Slowproxy is a bad network between a client and a server on this machine: every byte takes
// its time, connections break. Tests and benchmarks put it before a registry:
//
//	slowproxy [flags] SERVER
//
// It prints the address that it listens on and passes every connection on to SERVER, until
// it is interrupted or terminated; then -stats writes what passed.
//
// The delay is that of a line, not of a queue: any number of packets are under way at once,
// and each arrives half a round trip after it was sent. A new connection costs a round trip
// before its first byte, as the handshake of TCP does.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

func main() {
	p := &proxy{buffers: sync.Pool{New: func() any { return new([packetSize]byte) }}}
	flag.DurationVar(&p.delay, "rtt", 0, "the `time` of a round trip")
	flag.Int64Var(&p.cutUp, "cut-up", 0, "reset a connection after so many `bytes` from the client")
	flag.Int64Var(&p.cutDown, "cut-down", 0, "reset a connection after so many `bytes` from the server")
	flag.IntVar(&p.cuts, "cuts", 1, "reset at most `n` connections")
	stats := flag.String("stats", "", "write what passed to this `file` at the end, as a line of JSON")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: slowproxy [flags] SERVER")
		os.Exit(2)
	}
	p.delay /= 2
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := p.run(ctx, flag.Arg(0), *stats); err != nil {
		fmt.Fprintln(os.Stderr, "slowproxy:", err)
		os.Exit(1)
	}
}

// Stats says what passed a proxy.
type Stats struct {
	Connections int     `json:"connections"`
	Up          int64   `json:"up"`   // bytes that were taken from clients
	Down        int64   `json:"down"` // and from the server
	Cuts        int     `json:"cuts"`
	Pause       float64 `json:"pause"` // the longest time between two bytes of the clients, in seconds
}

type proxy struct {
	delay          time.Duration // one way
	cutUp, cutDown int64         // of one connection; 0 is never
	cuts           int           // that are left
	buffers        sync.Pool

	mu    sync.Mutex
	stats Stats
	last  time.Time // the last byte of a client
}

func (p *proxy) run(ctx context.Context, server, stats string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if ctx.Err() != nil {
			return p.writeStats(stats)
		}
		if err != nil {
			return err
		}
		go p.pass(c.(*net.TCPConn), server)
	}
}

func (p *proxy) writeStats(name string) error {
	if name == "" {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	data, err := json.Marshal(p.stats)
	if err != nil {
		return err
	}
	return os.WriteFile(name, append(data, '\n'), 0o644)
}

// pass joins a client's connection with one to the server.
func (p *proxy) pass(client *net.TCPConn, server string) {
	connected := time.Now().Add(2 * p.delay)
	p.mu.Lock()
	p.stats.Connections++
	p.mu.Unlock()
	c, err := net.Dial("tcp", server)
	if err != nil {
		reset(client)
		return
	}
	var (
		far    = c.(*net.TCPConn)
		broken = sync.OnceFunc(func() { reset(client); reset(far) })
		wg     sync.WaitGroup
	)
	wg.Go(func() { p.line(far, client, connected, p.cutUp, p.sentUp, broken) })
	wg.Go(func() { p.line(client, far, connected, p.cutDown, p.sentDown, broken) })
	wg.Wait()
	client.Close()
	far.Close()
}

func (p *proxy) sentUp(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.last.IsZero() {
		p.stats.Pause = max(p.stats.Pause, now.Sub(p.last).Seconds())
	}
	p.last = now
	p.stats.Up += n
}

func (p *proxy) sentDown(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stats.Down += n
}

// mayCut reports whether one more connection may be reset, and counts it.
func (p *proxy) mayCut() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cuts == 0 {
		return false
	}
	p.cuts--
	p.stats.Cuts++
	return true
}

// A packet is under way on a line until its time has come.
type packet struct {
	buf  *[packetSize]byte
	data []byte // of buf
	due  time.Time
	cut  bool // the connection breaks behind it
	err  error
}

// A line holds window packets: what a gigabit a second sends in 80 ms.
const (
	window     = 160
	packetSize = 64 << 10
)

// line carries bytes from one connection to another. Bytes that come before the connection
// is made count as sent at that time. After cut bytes, or when either end breaks, broken is
// called; at the end of the bytes the far end is told so.
func (p *proxy) line(to, from *net.TCPConn, connected time.Time, cut int64, sent func(int64), broken func()) {
	packets := make(chan packet, window)
	go p.take(packets, from, connected, cut, sent)
	for next := range packets {
		time.Sleep(time.Until(next.due))
		_, err := to.Write(next.data)
		p.buffers.Put(next.buf)
		switch {
		case next.cut, err != nil, next.err != nil && !errors.Is(next.err, io.EOF):
			broken() // ends the reading, too
		case next.err != nil:
			to.CloseWrite()
		}
	}
}

// take puts what is sent onto a line, up to the end, an error or the cut.
func (p *proxy) take(packets chan<- packet, from *net.TCPConn, connected time.Time, cut int64, sent func(int64)) {
	defer close(packets)
	for total := int64(0); ; {
		next := p.receive(from, connected, cut-total)
		if n := int64(len(next.data)); n > 0 {
			total += n
			sent(n)
		}
		if cut > 0 && total >= cut {
			next.cut, cut = p.mayCut(), 0
		}
		packets <- next
		if next.cut || next.err != nil {
			return
		}
	}
}

// receive reads what was sent, at most most bytes if that is positive.
func (p *proxy) receive(from *net.TCPConn, connected time.Time, most int64) packet {
	buf := p.buffers.Get().(*[packetSize]byte)
	room := buf[:]
	if most > 0 {
		room = buf[:min(most, packetSize)]
	}
	n, err := from.Read(room)
	at := time.Now()
	if at.Before(connected) {
		at = connected
	}
	return packet{buf: buf, data: buf[:n], due: at.Add(p.delay), err: err}
}

// reset closes a connection so that the other side gets an error and not an end.
func reset(c *net.TCPConn) {
	c.SetLinger(0)
	c.Close()
}
