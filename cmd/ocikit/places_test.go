package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/operands"
	"ocikit/oci/registry/serve"
	"ocikit/oci/registry/serve/servetest"
)

// reading is the table of the commands that read an image wherever it is: how each is called, where IMAGE
// stands for the image and NEW for a name that is not taken, and whether it prints the same whatever the
// place is.
var reading = []struct {
	name, args string
	same       bool
}{
	{"inspect", "IMAGE", false},
	{"files", "IMAGE", true},
	{"layers", "IMAGE", true},
	{"cat", "IMAGE", true},
	{"resolve", "IMAGE", false}, // with the name that it has there
	{"export", "IMAGE", true},
	{"extract", "IMAGE NEW --rootless", true},
	{"verify", "IMAGE", true},
	{"verify", "IMAGE --deep", true},
	{"inventory", "IMAGE", true},
	{"diff", "app:latest IMAGE", true},
	{"why", "app:latest IMAGE", true},
	{"config", "--from IMAGE --env X=1", true},
	{"copy", "IMAGE NEW", false},
	{"copy", "IMAGE NEW.tar", false},
	{"save", "IMAGE -o NEW.tar", true},
	{"bundle", "IMAGE -o NEW.tar", true},
	{"push", "IMAGE HOST/NEW:v1", false},
}

// editing are the commands with an IMAGE that they change, or name, so that it is in a layout.
var editing = []string{"flatten", "append", "mutate", "rebase", "convert", "tag", "untag"}

// Every command that reads images takes every kind of place, and says the same of the image there. The
// tables of this test lack neither a command nor a kind.
func TestPlacesAndCommands(t *testing.T) {
	hostilePlace(t)
	host := servetest.Serve(t, servetest.New(t, serve.Options{}))
	run := func(line string) string {
		t.Helper()
		status, out, errs := runOcikit(t.Context(), strings.NewReader(""), strings.Fields(line)...)
		if status != 0 {
			t.Errorf("%s: status %d, %s", line, status, errs)
		}
		return out
	}
	for _, line := range []string{
		"copy app:base app:latest", "untag app:base",
		"copy app:latest app.tar", "copy app:latest app.tar.gz", "copy app:latest app.tar.zst",
		"split app.tar parts --size 1KiB", "push app:latest " + host + "/app:latest",
	} {
		run(line)
	}

	places := [][]string{
		operands.AtLayout:   {"app:latest", "app", "oci:app:latest"},
		operands.AtArchive:  {"app.tar", "app.tar:latest", "oci-archive:app.tar", "app.tar.gz", "app.tar.zst", "parts"},
		operands.AtRegistry: {"docker://" + host + "/app", host + "/app:latest"},
	}
	if next := operands.Place(len(places)); next.Is() != "" {
		t.Errorf("the table has nothing that %s", next.Is())
	}

	for _, c := range program().Commands {
		isListed := slices.Contains(editing, c.Name)
		for _, r := range reading {
			isListed = isListed || r.name == c.Name
		}
		if strings.Contains(c.Args, "IMAGE") && !isListed {
			t.Errorf("%s takes an IMAGE and is in no table", c.Name)
		}
	}

	taken := 0
	for _, r := range reading {
		want := ""
		for at, named := range places {
			for _, operand := range named {
				if got, err := operands.PlaceOf(operand); got != operands.Place(at) || err != nil {
					t.Errorf("PlaceOf(%q) = %v, %v, want %v", operand, got, err, at)
				}
				taken++
				args := strings.NewReplacer("IMAGE", operand, "NEW", fmt.Sprintf("new%d", taken), "HOST", host).Replace(r.args)
				got := run(r.name + " " + args)
				if want == "" {
					want = got
				}
				if r.same && got != want {
					t.Errorf("%s %s:\n%s\nin the layout:\n%s", r.name, args, got, want)
				}
			}
		}
	}
}
