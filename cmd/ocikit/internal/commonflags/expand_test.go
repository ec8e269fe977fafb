package commonflags

import (
	"strings"
	"testing"
)

func TestExpandEnv(t *testing.T) {
	env := []string{"A=1", "B=", "PATH=/bin:/usr/bin", "X_1=x$A"}
	for _, c := range []struct{ in, want string }{
		{"", ""}, {"plain", "plain"}, {"$A", "1"}, {"${A}2", "12"}, {"$A2", ""}, {"$A-2", "1-2"},
		{"$PATH:/opt", "/bin:/usr/bin:/opt"}, {"$X_1", "x$A"}, {"$NONE.", "."},
		{`\$A`, "$A"}, {`\${A}`, "${A}"}, {`\\$A`, `\$A`}, {`a\b`, `a\b`},
		{"$", "$"}, {"5$", "5$"}, {"$5", "$5"}, {"$$A", "$1"},
		{"${A:-no}", "1"}, {"${B:-no}", "no"}, {"${NONE:-${A}$A}x", "11x"}, {"${A:+yes}", "yes"}, {"${B:+yes}", ""}, {"${NONE:-}", ""},
		{"${NONE:-a\\$b}", "a$b"},
		{"${A", "error"}, {"${", "error"}, {"${}", "error"}, {"${A:?x}", "error"}, {"${NONE:-x", "error"}, {"${A-}", "error"}, {"${5}", "error"},
	} {
		got, err := expandEnv(c.in, env)
		if err != nil {
			got = "error"
		}
		if got != c.want {
			t.Errorf("expandEnv(%q) = %q, %v; want %q", c.in, got, err, c.want)
		}
	}
	for in, want := range map[string]string{
		"a${A:-x":      `"${A:-x": no brace ends it`,
		"${A:-${B:-x}": `"${A:-${B:-x}": no brace ends it`,
		"${A:-${5}}":   `"${5}}": want ${NAME}, ${NAME:-WORD} or ${NAME:+WORD}`,
	} {
		if _, err := expandEnv(in, env); err == nil || err.Error() != want {
			t.Errorf("expandEnv(%q): %v, want %s", in, err, want)
		}
	}
	if _, err := expandEnv(strings.Repeat("${A:-", 100_000), env); err == nil || len(err.Error()) > 1000 {
		t.Errorf("a hundred thousand words in one another: %v", err)
	}
}
