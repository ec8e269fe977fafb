package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ocikit/oci/layout"
)

func TestParseFlags(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		want string // of -o, of the list, of the switch, and the operands
		err  string
	}{
		{"none", nil, `"" [] false []`, ""},
		{"before", []string{"-o", "f", "a"}, `"f" [] false [a]`, ""},
		{"behind", []string{"a", "--out=f", "b"}, `"f" [] false [a b]`, ""},
		{"one dash", []string{"-out", "f"}, `"f" [] false []`, ""},
		{"repeated", []string{"--item", "1", "a", "--item=2"}, `"" [1 2] false [a]`, ""},
		{"switch", []string{"--switch", "a"}, `"" [] true [a]`, ""},
		{"switch with a value", []string{"--switch=false", "a"}, `"" [] false [a]`, ""},
		{"value with equals", []string{"--item", "k=v=w"}, `"" [k=v=w] false []`, ""},
		{"value that is a dash", []string{"--out", "-"}, `"-" [] false []`, ""},
		{"value that looks like a flag", []string{"--item", "--switch"}, `"" [--switch] false []`, ""},
		{"dash is an operand", []string{"-", "--switch"}, `"" [] true [-]`, ""},
		{"two dashes end flags", []string{"a", "--", "--switch", "-o"}, `"" [] false [a --switch -o]`, ""},
		{"unknown", []string{"--swich"}, "", "unknown flag --swich"},
		{"no value", []string{"a", "-o"}, "", "flag -o needs a value"},
		{"not a number", []string{"--n", "x"}, "", `flag -n: "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			set := flag.NewFlagSet("test", flag.ContinueOnError)
			set.SetOutput(io.Discard)
			out := set.String("out", "", "")
			set.StringVar(out, "o", "", "short for --out")
			items := list(set, "item", "", "")
			on := set.Bool("switch", false, "")
			set.Int("n", 0, "")
			operands, err := parseFlags(set, c.args)
			if err != nil || c.err != "" {
				var usage *usageError
				if c.err == "" || !errors.As(err, &usage) || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("parseFlags(%q) = %v, want %q", c.args, err, c.err)
				}
				return
			}
			if got := fmt.Sprintf("%q %v %t %v", *out, *items, *on, operands); got != c.want {
				t.Errorf("parseFlags(%q) = %s, want %s", c.args, got, c.want)
			}
		})
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1000000": 1e6, "8MiB": 8 << 20, "4G": 4 << 30, "1.5kB": 1500, "64 MiB": -1, "": -1, "-1": -1, "9999999999TiB": -1, "x": -1, "NaN": -1} {
		got, err := parseSize(in)
		if want < 0 && err == nil || want >= 0 && (err != nil || got != want) {
			t.Errorf("parseSize(%q) = %d, %v, want %d", in, got, err, want)
		}
	}
}

type retryable struct{ error }

func (retryable) Retryable() bool { return true }

func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{errors.New("x"), 1},
		{syscall.ENOSPC, 1},
		{&usageError{msg: "x"}, 2},
		{fmt.Errorf("w: %w", retryable{errors.New("x")}), 3},
		{fmt.Errorf("w: %w", layout.ErrNotFound), 4},
		{fmt.Errorf("w: %w", &fs.PathError{Err: syscall.ENOENT}), 4},
		{fmt.Errorf("w: %w", layout.ErrIncomplete), 1},
		{withHint(fs.ErrNotExist, "x"), 4},
		{errInterrupted, 130},
	} {
		if got := statusOf(c.err); got != c.want {
			t.Errorf("statusOf(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain ünïcode":        "plain ünïcode",
		"a\nb\tc":              `a\nb\tc`,
		"\x1b[31mred":          `\x1b[31mred`,
		"c1 \u009b31m":         `c1 \x9b31m`,
		"del \x7f":             `del \x7f`,
		"latin1 \xe4":          `latin1 \xe4`,
		"bidi \u202egnp.exe":   `bidi \u202egnp.exe`,
		"zero width \u200b":    `zero width \u200b`,
		"replacement \ufffd":   `replacement \ufffd`,
		"line separator\u2028": `line separator\u2028`,
	} {
		if got := printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("a\x1b]0;x\x07")
	f.Fuzz(func(t *testing.T, s string) {
		got := printable(s)
		if strings.ContainsFunc(got, func(r rune) bool { return r < ' ' || r == 0x7f || 0x80 <= r && r < 0xa0 }) || printable(got) != got {
			t.Errorf("printable(%q) = %q", s, got)
		}
	})
}

// A full disk behind standard output is a failure, a reader that has gone is not a message.
func TestOutputErrors(t *testing.T) {
	for _, c := range []struct {
		err    error
		status int
		stderr string
	}{
		{syscall.ENOSPC, 1, "ocikit digest: write standard output: no space left on device\n"},
		{syscall.EPIPE, 141, ""},
	} {
		var errs lockedBuffer
		env := &Env{Stdin: strings.NewReader("x"), Stdout: brokenWriter{c.err}, Stderr: &errs, Getenv: func(string) string { return "" }}
		if status := run(t.Context(), env, []string{"digest"}); status != c.status || string(errs.Bytes()) != c.stderr {
			t.Errorf("%v: status %d, stderr %q; want %d, %q", c.err, status, errs.Bytes(), c.status, c.stderr)
		}
	}
}

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

func TestNearest(t *testing.T) {
	names := []string{"digest", "diffid", "layer", "layers", "ls"}
	for word, want := range map[string]string{"digst": "digest", "laier": "layer", "xyzzy": "", "l": ""} {
		if got := nearest(word, names); got != want {
			t.Errorf("nearest(%q) = %q, want %q", word, got, want)
		}
	}
	if !slices.Contains(names, "ls") {
		t.Fatal("the table was changed")
	}
}
