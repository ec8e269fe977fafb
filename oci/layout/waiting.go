package layout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"ocikit/digest"
	"ocikit/oci"
)

// WaitingFile is the file beside index.json that holds a [Waiting]. It is there only while
// there is something to remember. Other programs do not look at it, and need not: index.json
// names nothing that is not whole.
const WaitingFile = ".ocikit-waiting.json"

// Waiting is what a layout remembers about images that come in several pieces, in any order.
type Waiting struct {
	// Images are those that are not whole yet. Their annotations hold the names they get.
	Images []oci.Descriptor `json:"images,omitempty"`
	// Deltas say how to make blobs that some of Images lack.
	Deltas []Delta `json:"deltas,omitempty"`
	// Replaced has, for each name, the images that had it, or claimed it, before the one that
	// has it now. They do not get it back when they come a second time.
	Replaced map[string][]digest.Digest `json:"replaced,omitempty"`
}

// A Delta says that a layer can be made of a delta, itself a blob, and other layers.
type Delta struct {
	Bases     []DeltaBase   `json:"bases"`
	Delta     digest.Digest `json:"delta"`
	DeltaSize int64         `json:"deltaSize"`
	Digest    digest.Digest `json:"digest"` // of the layer to make
	Encoder   string        `json:"encoder,omitempty"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"`
	TarSize   int64         `json:"tarSize"` // uncompressed
}

// A DeltaBase is a layer that a delta copies from.
type DeltaBase struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"` // uncompressed
}

// Waiting returns what the layout remembers; it takes no lock.
func (l *Layout) Waiting() (Waiting, error) {
	w, _, err := l.readWaiting()
	return w, err
}

func (l *Layout) readWaiting() (Waiting, string, error) {
	var w Waiting
	data, err := l.readFile(WaitingFile, oci.MaxDocument)
	if errors.Is(err, fs.ErrNotExist) {
		return w, "", nil
	}
	if err == nil {
		if err = oci.Decode(data, &w); err != nil {
			err = fmt.Errorf("%s: %w", WaitingFile, err)
		}
	}
	if err != nil {
		return w, "", fmt.Errorf("layout %q: %w", l.dir, err)
	}
	return w, string(data), nil
}

// UpdateWaiting is [Layout.Update] for a change of index.json and of what the layout remembers
// in one go, under the one lock. Index.json is written first: a crash between the two leaves
// an image that waits and has its name already, which the next update finds out.
func (l *Layout) UpdateWaiting(ctx context.Context, change func(*oci.Index, *Waiting) error) error {
	unlock, err := l.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()

	x, err := l.readIndex(nil)
	if err != nil {
		return err
	}

	w, waited, err := l.readWaiting()
	if err != nil {
		return err
	}

	if err := change(&x, &w); err != nil {
		return err
	}

	if err := l.replace(x, pointers(x.Manifests)); err != nil {
		return err
	}

	return l.writeWaiting(w, waited)
}

// ForgetWaiting drops what the layout remembers, whether it can be read or not.
func (l *Layout) ForgetWaiting(ctx context.Context) error {
	unlock, err := l.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return l.removeWaiting()
}

func (l *Layout) removeWaiting() error {
	err := l.sys.remove(l.root, WaitingFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = l.syncDir(".")
	}
	if err != nil {
		return fmt.Errorf("layout %q: remove %s: %w", l.dir, WaitingFile, cause(err))
	}
	return nil
}

func (l *Layout) writeWaiting(w Waiting, before string) error {
	if len(w.Images) == 0 && len(w.Deltas) == 0 && len(w.Replaced) == 0 {
		if before == "" {
			return nil
		}
		return l.removeWaiting()
	}
	data, err := json.Marshal(w)
	if err != nil || string(data) == before {
		return err
	}
	if len(data) > oci.MaxDocument {
		return fmt.Errorf("layout %q: %s would have %d bytes, the limit is %d", l.dir, WaitingFile, len(data), oci.MaxDocument)
	}
	return l.writeBytes(WaitingFile, data)
}
