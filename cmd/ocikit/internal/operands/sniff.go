package operands

import (
	"ocikit/oci"
	"ocikit/tarutil"
)

// A Sniffer keeps as much of the bytes written to it as it takes to say what they are: all
// of what may be a JSON document, the head of anything else.
type Sniffer struct {
	head []byte
	json bool
	over bool // longer than any document
}

// Write never fails.
func (s *Sniffer) Write(p []byte) (int, error) {
	if len(s.head) == 0 && len(p) > 0 {
		s.json = p[0] == '{'
	}
	limit := tarutil.SniffLen
	if s.json {
		limit = oci.MaxDocument
	}
	room := limit - len(s.head)
	if len(p) > room {
		s.over = true
	}
	s.head = append(s.head, p[:min(room, len(p))]...)
	return len(p), nil
}

// MediaType returns the media type of what was written.
func (s *Sniffer) MediaType() string {
	if s.json && !s.over {
		if t := oci.SniffDocument(s.head); t != "" {
			return t
		}
		if string(s.head) == "{}" {
			return oci.MediaTypeEmpty
		}
	}

	switch tarutil.Sniff(s.head[:min(tarutil.SniffLen, len(s.head))]) {
	case tarutil.FormatGzip:
		return oci.MediaTypeLayerGzip
	case tarutil.FormatZstd:
		return oci.MediaTypeLayerZstd
	case tarutil.FormatTar:
		return oci.MediaTypeLayer
	}

	return oci.MediaTypeOctetStream
}
