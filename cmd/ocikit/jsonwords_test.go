package main

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/digest"
)

// jsonLines are command lines that print JSON, beside what examplePreamble and exampleRegistry
// make. Every command with --json or --dry-run has one for each.
const jsonLines = `digest --json layer.tar
diffid --json layer.tar
diff --json rootfs changed
why app:latest other --json
why layer.tar later.tar --json
why --rebuild app rootfs --json
why layer.tar umask.tar --json
ls app --json
inspect app --json
inspect app --all --json
inspect app@$LAYER --json
inspect attached:latest --json
files app --json
files app --all --json
files app --wasted --json
verify damaged --json
gc garbage --json --min-age 0s
copy app copied --dry-run
append app --layer rootfs -t new --dry-run
mutate app --label a=b -t new --dry-run
rebase app:child --old-base app:latest --new-base app:bare -t new --dry-run
flatten app:child -t new --dry-run
convert app:child --compress none -t new --dry-run
explain recording --json
save app --dry-run
extract app extracted --dry-run
load loaded app.tar --dry-run
inventory app --json
bundle grown:v2 --have grown.txt --delta --dry-run
unbundle loaded app.tar --dry-run
split --size 1KiB --json app.tar parts
join damagedparts --check --json
push app $REGISTRY/hello:new --json
push app $REGISTRY/other:new --dry-run
pull $REGISTRY/hello:latest pulled --json
pull $REGISTRY/hello:latest pulled2 --dry-run
registry ping $REGISTRY --json
registry token $REGISTRY/hello --explain
registry tags $REGISTRY/hello --json
registry catalog $REGISTRY --json
registry probe $REGISTRY/hello --json
registry probe $REGISTRY/hello --dry-run
version --json
`

// TestJSONWords holds every command to one vocabulary, that of "ocikit help json".
func TestJSONWords(t *testing.T) {
	words := map[string]string{}
	for i, w := range jsonWords() {
		if i > 0 && jsonWords()[i-1].name >= w.name {
			t.Errorf("%s is not at its place", w.name)
		}
		words[w.name] = w.kind
	}

	// The world: images with a child and another base, and of everything one that is damaged.
	t.Chdir(t.TempDir())
	file, _ := filepath.Abs("json.txt")
	s := &script{t: t, file: file, vars: map[string]string{"HOME": "home"}}
	writeTestFile(t, "recording", recordingFile)
	writeTestFile(t, "hello", "#!/bin/sh\n")
	writeTestFile(t, "changed/bin/hello", "other\n")
	writeTestFile(t, "changed/new", "new\n")
	var noise strings.Builder
	for i := range 64 {
		fmt.Fprintln(&noise, digest.FromBytes([]byte{byte(i)}))
	}
	writeTestFile(t, "grown1/file", noise.String())
	writeTestFile(t, "grown2/file", noise.String()+"more\n")
	for line := range strings.Lines("mkdir rootfs\n" + examplePreamble + exampleRegistry + `ocikit append app --layer changed -t child
ocikit tar --whiteout bin | ocikit append app --layer - -t bare
ocikit mutate app --entrypoint '["b"]' -t other
ocikit copy app:other other
ocikit tar changed --mtime 5 -o later.tar
chmod 775 rootfs/bin
ocikit tar rootfs -o umask.tar
chmod 755 rootfs/bin
ocikit save app:latest -o app.tar
cp app damaged
ocikit layers damaged | field digest > layer.digest
set LAYER layer.digest
cp app attached
ocikit resolve attached:latest > subject.json
ocikit manifest attached --artifact-type application/x-sig --subject subject.json
blob damaged $LAYER > path
set BLOB path
chmod 644 $BLOB
flip $BLOB 30
cp app garbage
printf x | ocikit put garbage
ocikit init grown
ocikit layer grown grown1 | ocikit config grown | ocikit manifest grown | ocikit tag grown:v1
ocikit inventory grown > grown.txt
ocikit layer grown grown2 | ocikit config grown | ocikit manifest grown | ocikit tag grown:v2
ocikit split --size 1KiB app.tar damagedparts
rm damagedparts/app.tar.0002
`) {
		if line = strings.TrimSpace(line); line != "" {
			s.run(line)
		}
	}

	// Every member of what is printed is a word, of its kind.
	seen := map[string]bool{}
	for line := range strings.Lines(jsonLines) {
		line = strings.TrimSpace(line)
		s.execute(s.parse("ocikit " + line))
		if len(s.stdout) == 0 {
			t.Errorf("%s: status %d, and nothing is printed: %s", line, s.status, s.stderr)
		}
		dec := json.NewDecoder(strings.NewReader(string(s.stdout)))
		for dec.More() {
			var v any
			if err := dec.Decode(&v); err != nil {
				t.Errorf("%s: %v: %s", line, err, s.stdout)
				break
			}
			if strings.HasPrefix(line, "explain ") {
				continue // it prints the lines of a recording, which has a format of its own
			}
			checkWords(t, line, v, words, seen)
		}
	}
	for name := range words {
		if !seen[name] {
			t.Errorf("%s: no command printed it", name)
		}
	}

	// No command is left out.
	for _, c := range commands() {
		for _, f := range cli.FlagsOf(c) {
			flag := f.Names[len(f.Names)-1]
			if flag != "--json" && flag != "--dry-run" {
				continue
			}
			lines := strings.Split(jsonLines, "\n")
			if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, c.Name+" ") && strings.Contains(l, flag) }) {
				t.Errorf("%s %s: no line of the test prints it", c.Name, flag)
			}
		}
	}
}

// checkWords looks at the members of a value, but not into what the image says itself.
func checkWords(t *testing.T, line string, v any, words map[string]string, seen map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			checkWords(t, line, e, words, seen)
		}
	case map[string]any:
		for name, value := range v {
			kind := map[string]string{"string": "string", "float64": "number", "bool": "bool", "[]interface {}": "list", "map[string]interface {}": "object"}[fmt.Sprintf("%T", value)]
			first := !seen[name]
			seen[name] = true
			switch {
			case words[name] == "" && first:
				t.Errorf("%s: %q, a %s, is not a word of `ocikit help json`", line, name, kind)
			case words[name] == "":
			case value != nil && !strings.Contains(words[name], kind):
				t.Errorf("%s: %q is a %s, want a %s", line, name, kind, words[name])
			}
			if !slices.Contains([]string{"config", "annotations", "history", "params", "steps", "subjects", "materials"}, name) || name == "steps" && strings.HasPrefix(line, "p") {
				checkWords(t, line, value, words, seen)
			}
		}
	}
}
