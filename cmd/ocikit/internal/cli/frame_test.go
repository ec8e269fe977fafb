package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"ocikit/oci/layout"
	"ocikit/oci/registry"
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
			items := List(set, "item", "", "")
			on := set.Bool("switch", false, "")
			set.Int("n", 0, "")
			operands, err := new(Program).parseFlags(set, c.args)
			if err != nil || c.err != "" {
				var usage *UsageError
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
		{&UsageError{Msg: "x"}, 2},
		{fmt.Errorf("w: %w", retryable{errors.New("x")}), 3},
		{fmt.Errorf("w: %w", layout.ErrNotFound), 4},
		{fmt.Errorf("w: %w", &fs.PathError{Err: syscall.ENOENT}), 4},
		{fmt.Errorf("w: %w", layout.ErrIncomplete), 1},
		{WithHint(fs.ErrNotExist, "x"), 4},
		{ErrInterrupted, 130},
		{&registry.ConnError{Err: &net.DNSError{Err: "no such host", IsNotFound: true}}, 4},
		{&registry.ConnError{Err: &net.DNSError{Err: "server misbehaving", IsTemporary: true}}, 3},
		{&registry.ConnError{Err: &net.DNSError{Err: "no such host", IsNotFound: true, IsTemporary: true}}, 3},
		{&registry.ConnError{Err: &net.DNSError{Err: "i/o timeout", IsTimeout: true}}, 3},
		{&registry.ConnError{Err: syscall.ECONNREFUSED}, 3},
	} {
		if got := statusOf(c.err); got != c.want {
			t.Errorf("statusOf(%v) = %d, want %d", c.err, got, c.want)
		}
	}
}

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
