package commonflags

import (
	"errors"
	"fmt"
	"strings"
)

// expandEnv puts in the values of variables as Dockerfiles do ("Environment replacement"): $NAME,
// ${NAME}, ${NAME:-WORD} for WORD if NAME is not set or empty, ${NAME:+WORD} for WORD if it is
// neither. A variable that is not set is empty. A backslash takes the meaning from a dollar sign;
// quotes have none.
func expandEnv(s string, env []string) (string, error) {
	text, rest, err := expandTo(s, env, false)
	if err == nil && rest != "" {
		panic("commonflags: text is left")
	}
	return text, err
}

// errNoBrace means that a word goes on to the end of the text.
var errNoBrace = errors.New("no brace ends it")

// expandTo expands up to the brace that ends a word, or to the end.
func expandTo(s string, env []string, inWord bool) (text, rest string, err error) {
	var b strings.Builder
	for s != "" {
		switch {
		case strings.HasPrefix(s, `\$`):
			b.WriteByte('$')
			s = s[2:]
		case inWord && s[0] == '}':
			return b.String(), s[1:], nil
		case s[0] != '$':
			b.WriteByte(s[0])
			s = s[1:]
		default:
			var value string
			if value, s, err = expandOne(s, env); err != nil {
				return "", "", err
			}
			b.WriteString(value)
		}
	}

	if inWord {
		return "", "", errNoBrace
	}

	return b.String(), "", nil
}

// expandOne expands the variable that s begins with.
func expandOne(s string, env []string) (value, rest string, err error) {
	body, braced := strings.CutPrefix(s[1:], "{")
	name := body[:nameLen(body)]
	value = lookupEnv(env, name)
	rest = body[len(name):]
	switch {
	case name == "" && !braced:
		return "$", rest, nil // as a lone dollar sign stays
	case !braced:
		return value, rest, nil
	case name == "":
	case strings.HasPrefix(rest, "}"):
		return value, rest[1:], nil
	case strings.HasPrefix(rest, ":-"), strings.HasPrefix(rest, ":+"):
		word, after, err := expandTo(rest[2:], env, true)
		switch {
		case err == errNoBrace:
			return "", "", fmt.Errorf("%.80q: %w", s, err)
		case err != nil:
			return "", "", err // it tells which variable in the word is wrong
		}
		switch {
		case rest[1] == '+' && value != "", rest[1] == '-' && value == "":
			return word, after, nil
		case rest[1] == '+':
			return "", after, nil
		}
		return value, after, nil
	}

	return "", "", fmt.Errorf("%.80q: want ${NAME}, ${NAME:-WORD} or ${NAME:+WORD}", s)
}

// nameLen returns how many bytes of s are the name of a variable.
func nameLen(s string) int {
	for i, c := range []byte(s) {
		letter := c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return i
		}
	}
	return len(s)
}

// lookupEnv returns the value of a variable, "" if there is none. Of one that is there several times the
// last counts, as it does for runtimes.
func lookupEnv(env []string, name string) (last string) {
	for _, pair := range env {
		if value, ok := strings.CutPrefix(pair, name+"="); ok {
			last = value
		}
	}
	return last
}
