package record

import (
	"cmp"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// A HAR writes an HTTP Archive (version 1.2), which the tools of browsers open. The caller must call
// Close, also if there was no entry. It is not safe for concurrent use.
type HAR struct {
	w     io.Writer
	err   error
	begun bool
}

// NewHAR returns a HAR that is written to w. Nothing is held in memory.
func NewHAR(w io.Writer) *HAR { return &HAR{w: w} }

type harPair struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Write adds an entry. After an error it does nothing and returns that error again.
func (h *HAR) Write(e *Entry) error {
	start := ",\n"
	if !h.begun {
		start = `{"log":{"version":"1.2","creator":{"name":"ocikit","version":"1"},"entries":[` + "\n"
	}

	h.begun = true
	data, err := json.Marshal(harEntry(e))
	h.err = cmp.Or(h.err, err)

	for _, part := range []string{start, string(data)} {
		if h.err == nil {
			_, h.err = io.WriteString(h.w, part)
		}
	}

	return h.err
}

// Close ends the archive, not the writer below.
func (h *HAR) Close() error {
	end := "\n]}}\n"
	if !h.begun {
		end = `{"log":{"version":"1.2","creator":{"name":"ocikit","version":"1"},"entries":[]}}` + "\n"
	}
	if h.err == nil {
		_, h.err = io.WriteString(h.w, end)
	}
	return h.err
}

// harEntry returns an entry in the form of the archive. -1 stands for a size that is not known.
func harEntry(e *Entry) map[string]any {
	request := map[string]any{
		"method": e.Method, "url": e.URL, "httpVersion": "HTTP/1.1", "cookies": []any{},
		"headers": harPairs(e.Request), "queryString": harQuery(e.URL), "headersSize": -1, "bodySize": e.Asked.Size,
	}

	if e.Asked.Size > 0 {
		request["postData"] = map[string]any{"mimeType": e.Ask("Content-Type"), "text": harText(e.Asked)}
	}

	content := map[string]any{"size": e.Answered.Size, "mimeType": e.Head("Content-Type")}
	if text := harText(e.Answered); text != "" {
		content["text"] = text
	}

	first := max(e.Timing.FirstByte, 0)
	return map[string]any{
		"startedDateTime": e.Time.Format(time.RFC3339Nano), "time": e.Timing.Total, "request": request,
		"response": map[string]any{
			"status": e.Status, "statusText": http.StatusText(e.Status), "httpVersion": "HTTP/1.1", "cookies": []any{},
			"headers": harPairs(e.Response), "content": content, "redirectURL": e.Head("Location"), "headersSize": -1, "bodySize": e.Answered.Size,
		},
		"cache":   map[string]any{},
		"timings": map[string]any{"send": 0, "wait": first, "receive": max(e.Timing.Total-first, 0)},
		"comment": harComment(e),
	}
}

// harComment tells what the archive has no place for: the endpoint, and who broke the connection.
func harComment(e *Entry) string {
	if e.Cut == "" {
		return e.Endpoint
	}
	return e.Endpoint + " cut-by=" + e.Cut
}

// harText returns the text of a body, "" if none was kept.
func harText(b Body) string {
	if b.Text != nil {
		return *b.Text
	}
	return ""
}

// harPairs returns headers or parameters as the archive lists them, sorted by name.
func harPairs(h map[string][]string) []harPair {
	pairs := []harPair{}
	for name, values := range h {
		for _, v := range values {
			pairs = append(pairs, harPair{name, v})
		}
	}

	slices.SortStableFunc(pairs, func(a, b harPair) int {
		if a.Name < b.Name {
			return -1
		}
		if a.Name > b.Name {
			return 1
		}
		return 0
	})

	return pairs
}

func harQuery(text string) []harPair {
	u, err := url.Parse(text)
	if err != nil {
		return []harPair{}
	}
	return harPairs(u.Query())
}
