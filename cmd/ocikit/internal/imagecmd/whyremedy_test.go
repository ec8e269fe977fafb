package imagecmd

import (
	"flag"
	"regexp"
	"slices"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/layercmd"
	"ocikit/oci/image/why"
	"ocikit/tarutil/cause"
)

// What a remedy names is there: the command, with the flag.
func TestRemedies(t *testing.T) {
	flags := map[string]*flag.FlagSet{}
	for _, c := range slices.Concat(Commands(), layercmd.Commands()) {
		flags[c.Name] = flag.NewFlagSet(c.Name, flag.ContinueOnError)
		c.Bind(flags[c.Name])
	}
	check := func(fix string) {
		for _, m := range regexp.MustCompile("`ocikit (\\w+) --([a-z-]+)").FindAllStringSubmatch(fix, -1) {
			if fs := flags[m[1]]; fs == nil && m[1] != "verify" && m[1] != "index" || fs != nil && fs.Lookup(m[2]) == nil {
				t.Errorf("%s: no such flag", fix)
			}
		}
	}
	for _, f := range memberFlags() {
		for _, there := range []string{`"x"`, ``, `["x"]`, `"x y"`} {
			document := f.document
			if document == "layer" {
				document = "layer 2"
			}
			check(memberRemedy(why.Cause{Kind: why.Member, Where: []string{document}, Path: strings.Replace(f.pointer, "*", "k~1l", 1), There: there}))
		}
	}
	for _, tt := range []struct {
		where, path, there, want string
	}{
		{"config", "/config/Env/A", `"A=1"`, "`ocikit mutate --env A=1`"},
		{"config", "/config/Env/A", ``, "`ocikit mutate --unset-env A`"},
		{"config", "/config/Labels/a~1b", `"v"`, "`ocikit mutate --label a/b=v`"},
		{"config", "/config/Cmd", `["a b"]`, "`ocikit mutate --cmd`"},
		{"config", "/config/Cmd/0", `"b"`, "`ocikit mutate --cmd`"}, // "b" alone would be all of it
		{"config", "/config/Cmd", ``, "`ocikit mutate --cmd ''`"},
		{"config", "/config/Healthcheck/Test/0", `"NONE"`, "`ocikit mutate --healthcheck`"},
		{"config", "/config/User", ``, "`ocikit mutate --user ''`"},
		{"config", "/config/Userland", `"x"`, "`ocikit mutate --json-patch FILE`"},
		{"config", "/history/3/created", `"2024-01-01T00:00:00Z"`, "`ocikit mutate --history 3:created=2024-01-01T00:00:00Z`"},
		{"config", "/history/3/created_by", `"RUN x"`, "`ocikit mutate --history 3:created_by=VALUE`"},
		{"config", "/moby.x", `"RUN x"`, "`ocikit mutate --json-patch FILE`"},
		{"manifest", "/annotations/k", ``, "`ocikit mutate --unset-annotation k`"},
		{"layer 4", "/annotations/k", `"v"`, "`ocikit mutate --layer-annotation 4:k=v`"},
		{"layer 4", "/annotations/k", ``, "`ocikit mutate --json-patch manifest=FILE`"},
		{"", "/a", `"v"`, ""},

		// What an image holds makes no second word of a command, and no second command.
		{"config", "/config/Labels/a b", `"v"`, "`ocikit mutate --label`"},
		{"config", "/config/Labels/a", `"v;reboot"`, "`ocikit mutate --label`"},
		{"config", "/config/Labels/a;reboot", ``, "`ocikit mutate --unset-label`"},
		{"config", "/history/3/x;reboot", `"x"`, "`ocikit mutate --json-patch FILE`"},
	} {
		var where []string
		if tt.where != "" {
			where = []string{tt.where}
		}
		got := memberRemedy(why.Cause{Kind: why.Member, Where: where, Path: tt.path, There: tt.there})
		if check(got); got != tt.want {
			t.Errorf("%s %s %s: %s, want %s", tt.where, tt.path, tt.there, got, tt.want)
		}
	}

	// Every kind has words, and its remedy is there, too.
	for _, k := range []why.Kind{
		why.Kinds, why.Algorithm, why.Absent, why.Family, why.JSON, why.Manifests, why.PlatformHere, why.PlatformThere, why.LayerOrder,
		why.LayersHere, why.LayersThere, why.Layering, why.Files, why.Compression, why.GzipHeader, why.GzipEnd, why.ClaimedDiffID, why.Bytes,
	} {
		for _, rebuilt := range []bool{false, true} {
			text, fix := whyWords(why.Cause{Kind: k, Count: 2, Path: "1", Here: "OCI", There: "Docker"}, rebuilt)
			if check(fix); text == string(k) {
				t.Errorf("%s: no words", k)
			}
		}
	}
	for _, k := range []cause.Kind{
		cause.OnlyHere, cause.OnlyThere, cause.Order, cause.Types, cause.Content, cause.Links, cause.Devices, cause.Modes, cause.Owners,
		cause.OwnerNames, cause.Times, cause.AccessTimes, cause.Xattrs, cause.Names, cause.Form, cause.Padding, cause.End, cause.Apart,
	} {
		c := cause.Cause{Kind: k, Count: 2, Path: "p", Here: "x", There: "y"}
		if text, fix := tarWords(c); text == string(k) {
			t.Errorf("%s: no words", k)
		} else if check(fix); k != cause.Content && fix == "" && k != cause.OnlyHere && k != cause.OnlyThere && k != cause.Types && k != cause.Links && k != cause.Devices {
			t.Errorf("%s: no remedy", k)
		}
	}
}
