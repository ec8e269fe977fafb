package commonflags

import (
	"fmt"
	"slices"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/show"
	"ocikit/oci/registry/serve/fault"
)

// Faults is --fault: names of faults, joined by commas.
type Faults string

func (f *Faults) String() string     { return string(*f) }
func (f *Faults) Set(s string) error { *f = Faults(s); return nil }

// Complete implements [cli.Completer]: it adds a name to those that the word has already.
func (f *Faults) Complete(word string) (found []cli.Completion) {
	done := word[:strings.LastIndex(word, ",")+1]
	if done == "" {
		found = append(found, cli.Completion{Word: "help", Short: "list the faults"})
	}
	for _, known := range fault.All() {
		if !slices.Contains(strings.Split(done, ","), known.Name) {
			found = append(found, cli.Completion{Word: done + known.Name, Short: known.Short})
		}
	}
	return found
}

// Names returns the names, each of which must be that of a fault; without the flag there are none.
func (f Faults) Names() ([]string, error) {
	if f == "" {
		return nil, nil
	}
	names := strings.Split(string(f), ",")
	for _, name := range names {
		if !slices.ContainsFunc(fault.All(), func(known fault.Fault) bool { return known.Name == name }) {
			return nil, &cli.UsageError{Msg: fmt.Sprintf("flag --fault: no fault is called %q", name), Advice: "`ocikit serve --fault help` lists them"}
		}
	}
	return names, nil
}

// ListFaults prints the faults that can be committed, one a line.
func ListFaults(env *cli.Env) error {
	var lines []string
	for _, f := range fault.All() {
		lines = append(lines, fmt.Sprintf("%-24s %s", f.Name, f.Short))
	}
	return show.WriteLines(env.Stdout, lines)
}
