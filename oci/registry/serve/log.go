package serve

import (
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Access is what is known of one request when it has ended. It never holds a secret.
type Access struct {
	Time       time.Time `json:"time"`
	Remote     string    `json:"remote"`
	User       string    `json:"user,omitempty"`
	Method     string    `json:"method"`
	Path       string    `json:"path"`     // with the query, as the client sent it
	Status     int       `json:"status"`   // 0: a fault cut the connection
	Sent       int64     `json:"sent"`     // bytes of the answer
	Received   int64     `json:"received"` // bytes of the body that were used
	Millis     int64     `json:"ms"`
	Repository string    `json:"repository,omitempty"`
	Session    string    `json:"session,omitempty"` // of an upload
	From       *int64    `json:"from,omitempty"`    // its offset before
	Offset     *int64    `json:"offset,omitempty"`  // and behind the request
	Fault      string    `json:"fault,omitempty"`   // that was committed
	Error      string    `json:"error,omitempty"`
	Agent      string    `json:"agent,omitempty"`
}

// JSON returns the record as one line of JSON.
func (a Access) JSON() string {
	line, err := json.Marshal(a)
	if err != nil {
		panic(err) // it is numbers and text
	}
	return string(line)
}

// String returns the record as one line: time, remote address, user, method, path, status,
// bytes received and sent, milliseconds, and then what there is of session=, range=FROM-TO,
// fault= and error=. What a client chose is quoted if it could be mistaken.
func (a Access) String() string {
	fields := []string{
		a.Time.UTC().Format(time.RFC3339Nano), a.Remote, plain(a.User), plain(a.Method), plain(a.Path),
		strconv.Itoa(a.Status), strconv.FormatInt(a.Received, 10), strconv.FormatInt(a.Sent, 10), strconv.FormatInt(a.Millis, 10),
	}
	if a.Session != "" {
		fields = append(fields, "session="+a.Session)
	}
	if a.From != nil && a.Offset != nil {
		fields = append(fields, "offset="+strconv.FormatInt(*a.From, 10)+"-"+strconv.FormatInt(*a.Offset, 10))
	} else if a.Offset != nil {
		fields = append(fields, "offset="+strconv.FormatInt(*a.Offset, 10))
	}
	if a.Fault != "" {
		fields = append(fields, "fault="+a.Fault)
	}
	if a.Error != "" {
		fields = append(fields, "error="+strconv.Quote(a.Error))
	}
	return strings.Join(fields, " ")
}

// plain returns s if it is one word of printable ASCII, else quoted; nothing is a dash.
func plain(s string) string {
	if s == "" {
		return "-"
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f || s[i] == '"' {
			return strconv.QuoteToASCII(s)
		}
	}
	return s
}

// logAccess hands the record of a request that has ended to the log and to those who watch.
func (s *Server) logAccess(w *recorder, r *http.Request) {
	a := &w.access
	a.Time = w.start
	a.Remote = r.RemoteAddr
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		a.Remote = host
	}
	a.Method, a.Path, a.Agent = r.Method, r.URL.RequestURI(), r.UserAgent()
	a.Status, a.Sent = w.status, w.written
	if a.Status == 0 && !w.abort {
		a.Status = http.StatusOK
	}
	a.Millis = s.opts.Now().Sub(w.start).Milliseconds()
	if !w.page {
		s.feed.add(a.step())
	}
	if s.opts.Log != nil {
		s.logMu.Lock()
		defer s.logMu.Unlock()
		s.opts.Log(*a)
	}
}
