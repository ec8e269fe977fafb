package registry

import (
	"fmt"
	"net/http"
	"strconv"

	"ocikit/digest"
	"ocikit/oci/registry/wire"
)

// update sets up to the state after an answer to a request that sent n bytes.
func (c *Client) update(up *Upload, resp *wire.Response, n int64) error {
	location, err := c.conn.ResolveLocation(resp)
	if err != nil {
		return err
	}

	up.Location = location
	up.Offset += n
	c.learnRange(up, resp)

	// The hints bound what the caller sends next. A minimum that is too large is an error,
	// since chunks below it will be refused; a large maximum bounds nothing.
	for _, h := range []struct {
		name  string
		value *int64
	}{{"OCI-Chunk-Min-Length", &up.ChunkMin}, {"OCI-Chunk-Max-Length", &up.ChunkMax}} {
		text := resp.Header.Get(h.name)
		if text == "" {
			continue
		}
		v, err := strconv.ParseInt(text, 10, 64)
		if err != nil || v < 0 || v > maxChunkHint && h.value == &up.ChunkMin {
			return fmt.Errorf("%s %s: %w: %s is %s", resp.Method, c.conn.Red.URL(resp.URL), ErrProtocol, h.name, wire.Quote(text))
		}
		*h.value = min(v, maxChunkHint)
	}

	return nil
}

// learnRange takes over what an answer, also one that refuses, says about the bytes that the
// registry has.
func (c *Client) learnRange(up *Upload, resp *wire.Response) {
	if resp == nil {
		return
	}
	n, ambiguous, ok := wire.ParseRange(resp.Header.Get("Range"))
	if !ok {
		n = -1
	}
	up.Server, up.Ambiguous = n, ambiguous

	// Some registries name in a 416 where to go on. An address that cannot be used is not an error
	// here: the old one is still known.
	if resp.Status == http.StatusRequestedRangeNotSatisfiable && resp.Header.Get("Location") != "" {
		if location, err := c.conn.ResolveLocation(resp); err == nil {
			up.Location = location
		}
	}
}

// checkLocation judges a success that has to say where something is.
func checkLocation(resp *wire.Response) {
	if resp.Status < 300 && resp.Header.Get("Location") == "" {
		resp.Note("violation", "no Location")
	}
}

// checkCreated returns a function that judges the answer to a request that creates what has the
// digest d.
func checkCreated(d digest.Digest) func(*wire.Response) {
	return func(resp *wire.Response) {
		checkLocation(resp)
		if resp.Status == http.StatusCreated {
			checkDigestHeader(resp, d)
		}
	}
}

// checkRange judges the Range of an answer against the end of what was sent.
func checkRange(resp *wire.Response, want int64) {
	raw := resp.Header.Get("Range")
	got, _, ok := wire.ParseRange(raw)
	switch {
	case raw == "":
		resp.Note("note", "no Range")
	case !ok:
		resp.Note("violation", "Range %s cannot be read", wire.Quote(raw))
	case got != want:
		resp.Note("violation", "Range %s, want 0-%d", wire.Quote(raw), want-1)
	default:
		resp.Note("ok", "Range is right")
	}
}
