package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// newFlagSet returns a set with the flags that every command has.
func newFlagSet(cmd Command, env *Env) *flag.FlagSet {
	fs := flag.NewFlagSet(cmd.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.BoolVar(&env.Quiet, "q", false, "print nothing but the result and errors")
	fs.BoolVar(&env.Verbose, "v", false, "say on standard error what is done")
	if cmd.Progress {
		env.progressFlag = "auto"
		fs.Var(&env.progressFlag, "progress", progressUsage)
	}
	return fs
}

// parseFlags sets the flags in args, which may stand before, between and behind the
// operands, and returns the operands. "--" ends the flags. A flag is written --flag=v or
// --flag v; package flag stops at the first operand, so the loop is ours.
func parseFlags(fs *flag.FlagSet, args []string) (operands []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(operands, args...), nil
		}
		if arg == "-" || !strings.HasPrefix(arg, "-") {
			operands = append(operands, arg)
			continue
		}
		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if name == "h" || name == "help" {
			return nil, flag.ErrHelp
		}
		f := fs.Lookup(name)
		if f == nil {
			return nil, unknownFlag(fs, name)
		}
		if !hasValue {
			if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
				value = "true"
			} else if len(args) == 0 {
				return nil, &usageError{msg: fmt.Sprintf("flag %s needs a value", dashed(name))}
			} else {
				value, args = args[0], args[1:]
			}
		}
		if err := fs.Set(name, value); err != nil {
			return nil, &usageError{msg: fmt.Sprintf("flag %s: %q: %v", dashed(name), value, plainParse(f, err))}
		}
	}
	return operands, nil
}

func unknownFlag(fs *flag.FlagSet, name string) error {
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return &usageError{msg: fmt.Sprintf("unknown flag %s", dashed(name)), hint: suggestFlag(fs.Name(), names, name)}
}

// plainParse says what a flag wants whose value package flag could not parse.
func plainParse(f *flag.Flag, err error) error {
	getter, ok := f.Value.(flag.Getter)
	if !ok {
		return err
	}
	switch getter.Get().(type) {
	case time.Duration:
		return errors.New("want a duration, as 500ms, 30s or 24h")
	case int, int64:
		return errors.New("want a whole number")
	case bool:
		return errors.New("want true or false, or no value")
	}
	return err
}

// dashed returns a flag as people write it.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// listFlag is a flag that may be given many times.
type listFlag []string

func (l *listFlag) String() string     { return strings.Join(*l, ",") }
func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }

// list declares a repeatable flag, under a short name too if short is not "".
func list(fs *flag.FlagSet, name, short, usage string) *[]string {
	l := new(listFlag)
	fs.Var(l, name, usage)
	if short != "" {
		fs.Var(l, short, "short for --"+name)
	}
	return (*[]string)(l)
}

// optional is a text flag that knows whether it was given: unset and set to nothing differ.
type optional struct {
	value string
	given bool
	words bool // it is a list: given twice, as other tools add to one, it is an error
}

func (o *optional) String() string { return o.value }

func (o *optional) Set(s string) error {
	if o.words && o.given {
		return errors.New(`given twice: several words are a JSON list, as ["a","b"]`)
	}
	o.value, o.given = s, true
	return nil
}

func optionalFlag(fs *flag.FlagSet, name, short, usage string) *optional {
	o := new(optional)
	fs.Var(o, name, usage)
	if short != "" {
		fs.Var(o, short, "short for --"+name)
	}
	return o
}

// wordsFlag is optionalFlag for a list of words.
func wordsFlag(fs *flag.FlagSet, name, usage string) *optional {
	o := optionalFlag(fs, name, "", usage)
	o.words = true
	return o
}

// sizeFlag is a number of bytes, as 100, 8KiB, 16MiB, 4G or 1.5MB.
type sizeFlag int64

func (s *sizeFlag) String() string { return strconv.FormatInt(int64(*s), 10) }

func (s *sizeFlag) Set(text string) error {
	n, err := parseSize(text)
	*s = sizeFlag(n)
	return err
}

func parseSize(text string) (int64, error) {
	units := []struct {
		suffix string
		factor int64
	}{
		{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
		{"kB", 1e3}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12},
		{"k", 1 << 10}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {"T", 1 << 40}, {"B", 1},
	}
	number, factor := text, int64(1)
	for _, u := range units {
		if n, ok := strings.CutSuffix(text, u.suffix); ok {
			number, factor = n, u.factor
			break
		}
	}
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && n >= 0 && n <= (1<<62)/factor {
		return n * factor, nil
	}
	if f, err := strconv.ParseFloat(number, 64); err == nil && f >= 0 && f*float64(factor) < 1<<62 {
		return int64(f * float64(factor)), nil
	}
	return 0, fmt.Errorf("want a number of bytes, as 1000, 8MiB or 4GB")
}

// keyValue splits K=V.
func keyValue(flagName, s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", "", &usageError{msg: fmt.Sprintf("flag %s: %q: want KEY=VALUE", dashed(flagName), s)}
	}
	return key, value, nil
}
