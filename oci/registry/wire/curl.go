package wire

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

func (c *Conn) curl(e *Event) string { return e.Curl(c.curlTLS(e)...) }

// Curl returns the request as one line of shell that can be pasted, with more options of curl.
//
// The user sets variables for what the line cannot hold: $REGISTRY_BASIC and $REGISTRY_BEARER are
// credentials, $BODY is the name of a file with the bytes that were sent, and $LOCATION is the
// absolute address of an upload, which changes with each answer. If the bytes came from a file, the
// line takes exactly those out of it and needs no $BODY.
func (e *Event) Curl(options ...string) string {
	before := ""
	words := []string{"curl", "-sS"}
	switch e.Method {
	case http.MethodGet:
		words = append(words, "-D -")
	case http.MethodHead:
		words = append(words, "-I")
	default:
		words = append(words, "-D -", "-X "+e.Method)
	}

	words = append(words, options...)
	words = append(words, e.curlHeaders()...)
	switch {
	case e.hasBody() && e.file.Name != "":
		before = fmt.Sprintf("tail -c +%d %s | head -c %s | ", e.file.Offset+1, shellQuote(e.file.Name), e.Request["Content-Length"][0])
		words = append(words, "--data-binary @-")
	case e.hasBody():
		words = append(words, `-T "$BODY"`)
	}

	return before + strings.Join(append(words, e.curlTarget()), " ") + "\n"
}

// curlTLS returns the options about certificates, which are for the registry alone.
func (c *Conn) curlTLS(e *Event) []string {
	var words []string
	if !strings.HasPrefix(e.URL, "https:") || !strings.HasPrefix(e.URL, c.URL()+"/") {
		return nil
	}
	if c.o.Insecure {
		words = append(words, "-k")
	}
	for _, option := range [][2]string{{"--cacert", c.o.CAFile}, {"--cert", c.o.CertFile}, {"--key", c.o.KeyFile}} {
		if option[1] != "" {
			words = append(words, option[0]+" "+shellQuote(option[1]))
		}
	}
	return words
}

func (e *Event) hasBody() bool {
	length := e.Request["Content-Length"]
	return len(length) > 0 && length[0] != "0"
}

// curlHeaders returns the headers as options, without those that curl sets itself: Expect, and the
// Content-Length of a file, unless a wrong length was sent on purpose.
func (e *Event) curlHeaders() []string {
	var words []string
	for _, name := range sortedKeys(e.Request) {
		for _, v := range e.Request[name] {
			scheme, _, _ := strings.Cut(v, " ")
			switch {
			case name == "Expect":
			case name == "Content-Length" && e.hasBody() && (e.Sent == 0 || v == fmt.Sprint(e.Sent)):
			case name == "Authorization":
				words = append(words, fmt.Sprintf(`-H "Authorization: %s $REGISTRY_%s"`, scheme, strings.ToUpper(scheme)))
			default:
				words = append(words, "-H "+shellQuote(name+": "+v))
			}
		}
	}

	return words
}

// curlTarget returns the address of the request. The Location of an upload is good for one request,
// so a variable stands for it; only the digest that the client adds at the end is kept.
func (e *Event) curlTarget() string {
	base, query, _ := strings.Cut(e.URL, "?")
	params := strings.Split(query, "&")
	if slices.Contains([]string{"end-5", "end-6", "end-13", "end-14"}, e.Endpoint) {
		last := params[len(params)-1]
		switch {
		case e.Endpoint != "end-6" || !strings.HasPrefix(last, "digest="):
			return `"$LOCATION"`
		case len(params) == 1:
			return `"$LOCATION"` + shellQuote("?"+last)
		}
		return `"$LOCATION"` + shellQuote("&"+last)
	}

	// A value that was redacted is a secret, and becomes a variable outside of the single
	// quotes.
	words, plain := "", base
	for i, p := range params {
		if p == "" {
			continue
		}
		sign := "&"
		if i == 0 {
			sign = "?"
		}
		key, value, _ := strings.Cut(p, "=")
		if strings.HasPrefix(value, "REDACTED-") {
			words += shellQuote(plain+sign+key+"=") + `"$SECRET_` + strings.ToUpper(shellName(key)) + `"`
			plain = ""
			continue
		}
		plain += sign + p
	}

	if plain != "" {
		words += shellQuote(plain)
	}

	return words
}

// shellName returns what of s may stand in the name of a variable.
func shellName(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' {
			return c
		}
		return -1
	}, s)
}

// shellQuote returns s in single quotes. What cannot be printed, and so is in no header or URL
// that makes sense, is dropped.
func shellQuote(s string) string {
	s = strings.Map(func(c rune) rune {
		if !strconv.IsPrint(c) {
			return -1
		}
		return c
	}, s)
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
