package cli

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// BindCommon declares the flags that every command has, or every one that may take long.
func BindCommon(fs *flag.FlagSet) { bindCommon(fs, new(Env), true) }

func bindCommon(fs *flag.FlagSet, env *Env, progress bool) {
	fs.BoolVar(&env.Quiet, "q", false, "print nothing but the result and errors")
	fs.BoolVar(&env.Verbose, "v", false, "say on standard error what is done")
	if progress {
		env.progressFlag = Choice(fs, "progress", "auto", "show on standard error `HOW` far the work is, never with -q",
			"auto (bars if that is a terminal, else nothing)", "plain (lines without control codes)",
			"json (a JSON line for each step)", "none")
	}
}

// newFlagSet returns a set with the flags that every command has.
func newFlagSet(cmd Command, env *Env) *flag.FlagSet {
	fs := flag.NewFlagSet(cmd.Name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	bindCommon(fs, env, cmd.Progress)
	return fs
}

// parseFlags sets the flags in args, which may stand before, between and behind the
// operands, and returns the operands. "--" ends the flags. A flag is written --flag=v or
// --flag v; package flag stops at the first operand, so the loop is ours.
func (p *Program) parseFlags(fs *flag.FlagSet, args []string) (operands []string, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			return append(operands, args...), nil
		}

		// "-:DEST" is standard input, with the place where it goes.
		if arg == "-" || strings.HasPrefix(arg, "-:") || !strings.HasPrefix(arg, "-") {
			operands = append(operands, arg)
			continue
		}

		name, value, hasValue := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-"), "=")
		if name == "h" || name == "help" {
			return nil, flag.ErrHelp
		}

		f := fs.Lookup(name)
		if f == nil {
			return nil, p.unknownFlag(fs, name)
		}

		// A flag that needs no value takes none from the next word.
		if !hasValue {
			if b, ok := f.Value.(interface{ IsBoolFlag() bool }); ok && b.IsBoolFlag() {
				value = "true"
			} else if len(args) == 0 {
				return nil, &UsageError{Msg: fmt.Sprintf("flag %s needs a value", Dashed(name))}
			} else {
				value, args = args[0], args[1:]
			}
		}

		if err := fs.Set(name, value); err != nil {
			return nil, &UsageError{Msg: fmt.Sprintf("flag %s: %q: %v", Dashed(name), value, plainParse(f, err))}
		}
	}

	return operands, nil
}

func (p *Program) unknownFlag(fs *flag.FlagSet, name string) error {
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, f.Name) })
	return &UsageError{Msg: fmt.Sprintf("unknown flag %s", Dashed(name)), Advice: p.suggestFlag(fs.Name(), names, name)}
}

// plainParse says what a flag wants if package flag could not parse its value.
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

// Dashed returns the name of a flag as people write it: -x or --long.
func Dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// listFlag is a flag that may be given many times.
type listFlag []string

func (l *listFlag) String() string     { return strings.Join(*l, ",") }
func (l *listFlag) Set(s string) error { *l = append(*l, s); return nil }

// FlagValues returns the values that a flag was given: one, or those of a repeatable flag.
func FlagValues(f *flag.Flag) []string {
	if l, ok := f.Value.(*listFlag); ok {
		return *l
	}
	return []string{f.Value.String()}
}

// isAlias is how the usage of a flag begins that is another name of one.
const isAlias = "short for --"

// Alias declares one more name of a flag: a short one, or one by which it is known elsewhere. "" is
// none.
func Alias(fs *flag.FlagSet, name, alias string) {
	if alias != "" {
		fs.Var(fs.Lookup(name).Value, alias, isAlias+name)
	}
}

// BindJSON declares the flag of commands whose report a program may read.
func BindJSON(fs *flag.FlagSet) *bool {
	return fs.Bool("json", false, "print JSON: one object, or of a list a line for each")
}

// List declares a repeatable flag, under a short name too if short is not "".
func List(fs *flag.FlagSet, name, short, usage string) *[]string {
	l := new(listFlag)
	fs.Var(l, name, usage)
	Alias(fs, name, short)
	return (*[]string)(l)
}

// Optional is a text flag that knows whether it was given: unset and set to nothing differ.
type Optional struct {
	Value string
	Given bool
	words bool // it is a list: given twice, as other tools add to one, it is an error
}

func (o *Optional) String() string { return o.Value }

func (o *Optional) Set(s string) error {
	if o.words && o.Given {
		return errors.New(`given twice: several words are a JSON list, as ["a","b"]`)
	}
	o.Value, o.Given = s, true
	return nil
}

// OptionalFlag declares a text flag that knows whether it was given, under a short name too if
// short is not "".
func OptionalFlag(fs *flag.FlagSet, name, short, usage string) *Optional {
	o := new(Optional)
	fs.Var(o, name, usage)
	Alias(fs, name, short)
	return o
}

// WordsFlag is [OptionalFlag] for a list of words, which can be given once only.
func WordsFlag(fs *flag.FlagSet, name, usage string) *Optional {
	o := OptionalFlag(fs, name, "", usage)
	o.words = true
	return o
}

// Size is a flag for a number of bytes: 100, 8KiB, 16MiB, 4G or 1.5MB. K, M, G and T alone are
// powers of 1024.
type Size int64

func (s *Size) String() string { return strconv.FormatInt(int64(*s), 10) }

func (s *Size) Set(text string) error {
	n, err := parseSize(text)
	*s = Size(n)
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

	// The first suffix that fits counts, so B stands behind all that end in it.
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

// KeyValue splits K=V, a value of the flag. An empty key, and one with control characters, is a
// usage error.
func KeyValue(flagName, s string) (key, value string, err error) {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return "", "", &UsageError{Msg: fmt.Sprintf("flag %s: %q: want KEY=VALUE", Dashed(flagName), s)}
	}
	if strings.ContainsFunc(key, unicode.IsControl) {
		return "", "", &UsageError{Msg: fmt.Sprintf("flag %s: %q: a control character in the key", Dashed(flagName), s)}
	}
	return key, value, nil
}

// KeyValues reads the values of a repeatable flag that are KEY=VALUE. The last value of a key
// counts. Without pairs the map is nil.
func KeyValues(flagName string, pairs []string) (map[string]string, error) {
	var m map[string]string
	for _, p := range pairs {
		k, v, err := KeyValue(flagName, p)
		if err != nil {
			return nil, err
		}
		if m == nil {
			m = map[string]string{}
		}
		m[k] = v
	}
	return m, nil
}

// A choice is a flag that takes one of a few words, or several of them if it may be repeated.
type choice struct {
	value  *string
	values *[]string // of a repeatable flag, in place of value
	words  []string
}

// Choice declares a flag that takes one of the words. A word may have its meaning behind it in
// brackets: "stream (one PATCH)". Usage says what the flag does, with the place of the value in
// backquotes; the words follow it in help, are checked, and are what the flag is completed to.
func Choice(fs *flag.FlagSet, name, def, usage string, words ...string) *string {
	value := def
	fs.Var(&choice{value: &value, words: bare(words)}, name, usage+": "+orList(words))
	return &value
}

// ChoiceList is [Choice] for a flag that may be repeated.
func ChoiceList(fs *flag.FlagSet, name, usage string, words ...string) *[]string {
	values := new([]string)
	fs.Var(&choice{values: values, words: bare(words)}, name, usage+": "+orList(words)+" (repeatable)")
	return values
}

// bare returns words without what stands in brackets behind them.
func bare(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i], _, _ = strings.Cut(w, " (")
	}
	return out
}

// orList joins words as people do: "a, b or c".
func orList(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func (c *choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c *choice) Set(s string) error {
	switch {
	case !slices.Contains(c.words, s):
		return errors.New("want " + orList(c.words))
	case c.values != nil:
		*c.values = append(*c.values, s)
	default:
		*c.value = s
	}
	return nil
}

// Complete implements [Completer].
func (c *choice) Complete(string) []Completion { return Words(c.words...) }
