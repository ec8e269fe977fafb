package auth

import (
	"net/http"
	"slices"
	"strings"

	"ocikit/oci/registry/wire"
)

// A Challenge is one way a server offers to authorize a request (RFC 9110, section 11).
type Challenge struct {
	Scheme string            `json:"scheme"` // lower case
	Params map[string]string `json:"params,omitempty"`
}

// maxChallenge bounds the headers that are parsed.
const maxChallenge = 8 << 10

// ParseChallenges reads all WWW-Authenticate headers. It takes what registries send: several
// challenges in one header, values without quotes, commas within quotes. What cannot be read is
// passed over, and so is everything behind the first 8 KiB.
func ParseChallenges(h http.Header) []Challenge {
	var list []Challenge
	total := 0
	for _, v := range h.Values("Www-Authenticate") {
		if total += len(v); total > maxChallenge {
			break
		}
		list = append(list, parseChallenge(v)...)
	}
	return list
}

// parseChallenge reads one header. Its grammar is ambiguous: a comma parts challenges as well as their
// parameters. A word is a parameter if an equals sign follows, else it begins a challenge.
func parseChallenge(s string) []Challenge {
	var list []Challenge
	p := &wire.HeaderScanner{Rest: s}
	for {
		p.Skip(" \t,")
		word := p.Until(" \t,=\"")
		if word == "" {
			return list
		}

		p.Skip(" \t")
		if p.Peek() == '=' && len(list) > 0 {
			p.Next()
			p.Skip(" \t")
			list[len(list)-1].Params[strings.ToLower(word)] = p.Value()
			continue
		}
		if p.Peek() == '=' { // a parameter before any scheme, or the padding of a token68
			p.Until(" \t,")
			continue
		}
		if len(list) > 0 && p.Peek() == ',' && !slices.Contains([]string{"basic", "bearer", "negotiate", "digest", "ntlm"}, strings.ToLower(word)) {
			continue // a token68, or rubbish
		}

		list = append(list, Challenge{Scheme: strings.ToLower(word), Params: map[string]string{}})
	}
}
