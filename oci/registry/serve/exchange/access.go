package exchange

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
	Status     int       `json:"status"`   // 0: the connection was cut in place of an answer
	Sent       int64     `json:"sent"`     // bytes of the answer
	Received   int64     `json:"received"` // bytes of the body that were used
	Millis     int64     `json:"ms"`
	Repository string    `json:"repository,omitempty"`
	Session    string    `json:"session,omitempty"`  // of an upload
	From       *int64    `json:"from,omitempty"`     // its offset before
	Offset     *int64    `json:"offset,omitempty"`   // and behind the request
	Upstream   string    `json:"upstream,omitempty"` // what another registry did for it
	Fault      string    `json:"fault,omitempty"`    // that was committed
	Error      string    `json:"error,omitempty"`
	Agent      string    `json:"agent,omitempty"`
	Outcome    string    `json:"-"` // what became of the session, for those who watch
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
// bytes received and sent, milliseconds, and then what there is of session=, offset=FROM-TO,
// upstream=, fault= and error=. What a client chose is quoted if it could be mistaken.
func (a Access) String() string {
	fields := []string{
		a.Time.UTC().Format(time.RFC3339Nano), a.Remote, Plain(a.User), Plain(a.Method), Plain(a.Path),
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

	if a.Upstream != "" {
		fields = append(fields, "upstream="+Plain(a.Upstream))
	}

	if a.Fault != "" {
		fields = append(fields, "fault="+a.Fault)
	}

	if a.Error != "" {
		fields = append(fields, "error="+strconv.Quote(a.Error))
	}

	return strings.Join(fields, " ")
}

// Plain returns s if it is one word of printable ASCII, else quoted; nothing is a dash.
func Plain(s string) string {
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

// Finish fills in the fields of Access that are known only when the request has ended.
func (w *Recorder) Finish(r *http.Request, now time.Time) {
	a := &w.Access
	a.Time = w.Start
	a.Remote = r.RemoteAddr
	if host, _, err := net.SplitHostPort(r.RemoteAddr); err == nil {
		a.Remote = host
	}
	a.Method, a.Path, a.Agent = r.Method, r.URL.RequestURI(), r.UserAgent()
	a.Status, a.Sent = w.Status, w.Written
	if a.Status == 0 && !w.Abort {
		a.Status = http.StatusOK
	}
	a.Millis = now.Sub(w.Start).Milliseconds()
}
