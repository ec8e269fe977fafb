package oci

import (
	"encoding/json"
	"errors"
	"fmt"

	"ocikit/digest"
)

var (
	// ErrAbsent means that an edit is about something that is not there.
	ErrAbsent = errors.New("nothing to remove")
	// ErrFamily means that a media type has no counterpart in the other family.
	ErrFamily = errors.New("the image has Docker's media types, and they know no such layer")
)

// An absent is an error that matches [ErrAbsent]. Its text names the thing that is absent.
type absent string

func (a absent) Error() string        { return string(a) }
func (a absent) Is(target error) bool { return target == ErrAbsent }

// Absent returns an error that matches [ErrAbsent].
func Absent(format string, args ...any) error { return absent(fmt.Sprintf(format, args...)) }

// DiffIDs returns the diff IDs of the layers, the lowest first.
func (c *Config) DiffIDs() ([]digest.Digest, error) {
	v, err := c.View()
	return v.RootFS.DiffIDs, err
}

// SetDiffIDs replaces the list of diff IDs; the rest of "rootfs" stays.
func (c *Config) SetDiffIDs(ids []digest.Digest) error {
	var rootfs Object
	if err := json.Unmarshal(c.doc["rootfs"], &rootfs); err != nil {
		return err
	}
	if ids == nil {
		ids = []digest.Digest{}
	}
	rootfs["diff_ids"] = mustEncode(ids)
	c.doc["rootfs"] = mustEncode(rootfs)
	return nil
}

// A HistoryEntry is one entry of history with the members that [History] has no field for.
type HistoryEntry struct {
	History
	raw json.RawMessage
}

// NewHistoryEntry returns an entry for a step that was just made.
func NewHistoryEntry(h History) HistoryEntry { return HistoryEntry{h, mustEncode(h)} }

// Same reports whether two entries say the same in the members that [History] has fields for.
func (h HistoryEntry) Same(other HistoryEntry) bool { return h.History == other.History }

// AsEmpty returns the entry of a step whose layer is not in the image any more.
func (h HistoryEntry) AsEmpty() HistoryEntry {
	var o Object
	if json.Unmarshal(h.raw, &o) != nil || o == nil {
		o = Object{}
	}
	o["empty_layer"] = json.RawMessage("true")
	h.EmptyLayer, h.raw = true, mustEncode(o)
	return h
}

// With returns the entry with another text in one of its members; "" removes the member.
func (h HistoryEntry) With(member, value string) (HistoryEntry, error) {
	var o Object
	if err := json.Unmarshal(h.raw, &o); err != nil || o == nil {
		o = Object{}
	}
	setText(o, member, value)
	h.raw = mustEncode(o)

	// Unmarshal leaves a field alone that the text does not have, so a removed member would stay.
	h.History = History{}
	return h, json.Unmarshal(h.raw, &h.History)
}

// MadeLayers returns how many of the entries are about a step that made a layer.
func MadeLayers(entries []HistoryEntry) (n int) {
	for _, h := range entries {
		if !h.EmptyLayer {
			n++
		}
	}
	return n
}

// HistoryEntries returns the history as it is, the oldest step first.
func (c *Config) HistoryEntries() ([]HistoryEntry, error) {
	var raws []json.RawMessage
	if err := c.doc.Get("history", &raws); err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	entries := make([]HistoryEntry, len(raws))
	for i, raw := range raws {
		entries[i].raw = raw
		if err := json.Unmarshal(raw, &entries[i].History); err != nil {
			return nil, fmt.Errorf("history: %w", err)
		}
	}
	return entries, nil
}

// SetHistoryEntries replaces the history. Without entries the member is removed.
func (c *Config) SetHistoryEntries(entries []HistoryEntry) {
	if len(entries) == 0 {
		delete(c.doc, "history")
		return
	}
	raws := make([]json.RawMessage, len(entries))
	for i, e := range entries {
		raws[i] = e.raw
	}
	c.doc["history"] = mustEncode(raws)
}

// Exec returns the members of "config": how a container is started. The map is a copy.
func (c *Config) Exec() Object { return c.exec.clone() }

// SetExecObject replaces all members of "config".
func (c *Config) SetExecObject(exec Object) { c.exec = exec.clone() }
