package main

import (
	"os"
	"slices"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

// exampleEffects says what is to be true when the example of a command or a topic has run: lines of
// a script. The first ones may look at what its last line has printed.
func exampleEffects() map[string]string {
	const (
		oneLayer  = `stdout '"mediaType":"application/vnd.oci.image.layer.v1.tar\+gzip"'` + "\n"
		digestEnd = `stdout '^sha256:[0-9a-f]{64}'` + "\n"
		hello     = `stdout '^f 0644 0:0 \d+ \d bin/hello$'` + "\n"
	)
	carried := "ocikit verify carried\nocikit files carried\n" + hello
	return map[string]string{
		"tar":    digestEnd + "ocikit diff rootfs layer.tar --ignore times --ignore owner\n",
		"retar":  digestEnd + "ocikit retar layer.tar --only bin --prefix usr/local -o r.tar\nocikit append app --layer r.tar -t v1\nocikit files app:v1\nstdout usr/local/bin/hello\n",
		"gzip":   "stdout '^hello$'\n",
		"zstd":   "stdout '^hello$'\n",
		"digest": "stdout '^sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824$'\n",
		"diffid": digestEnd,
		"diff":   oneLayer, // a layer without a change
		"layer":  oneLayer,
		"config": "cat config.json\nstdout 'PATH=/bin'\nstdout '/bin/hello'\n",

		"manifest": "stdout 'application/spdx'\nocikit copy app far --referrers\nocikit ls far\nstdout '^@sha256:'\ncat manifest.json\nstdout '\"layers\":\\['\n",
		"index":    "ocikit inspect app:multi\nstdout linux/amd64\nstdout linux/s390x\n! stdout linux/arm64\n",

		"init":    "ocikit ls app\nstdout latest\n", // what is there stays
		"put":     "stdout '\"mediaType\":\"application/json\"'\nocikit ls app\nstdout latest\n",
		"cat":     "stdout '\"rootfs\"'\n",
		"tag":     "ocikit ls app\nstdout '^v1.2.3$'\nstdout '^v1.2$'\nstdout '^v1$'\n",
		"untag":   "ocikit ls app\n! stdout old\nstdout latest\n",
		"ls":      "stdout '^latest$'\n",
		"resolve": "stdout '\"mediaType\":\"application/vnd.oci.image.manifest.v1\\+json\"'\n",
		"layers":  oneLayer + "stdout containerd.io/uncompressed\n",
		"inspect": "stdout '\"kind\"'\n",
		"files":   "ocikit files app\n" + hello,
		"verify":  "! stdout .\n",
		"gc":      "ocikit gc app --min-age 0s\n! stdout .\nocikit verify app\n",
		"copy":    "ocikit files back\n" + hello + "ocikit files app.tar\n" + hello + "ocikit files carried\n" + hello + "ocikit registry tags $REGISTRY/hello\nstdout '^copied$'\n",

		"append":  "ocikit layers app:v2 | head -n 3\nocikit files app:v2\n" + hello + "ocikit verify app --deep\n",
		"mutate":  "ocikit cat app:v2 --config\nstdout LANG=C.UTF-8\n! stdout '\"User\"'\nocikit cat app:child --config\n! stdout history\nocikit cat app:child\nstdout '\"about\":\"files\"'\nocikit verify app --deep\n",
		"rebase":  "ocikit files app:child\nstdout ' 2 bin/hello$'\nocikit verify app --deep\n", // three layers
		"flatten": "ocikit files app:flat\n" + hello + "ocikit diff app:child app:flat --files-only\n",
		"convert": "ocikit layers app:zstd\nstdout 'tar\\+zstd'\nocikit files app:zstd\n" + hello + "ocikit verify app --deep\n",
		"why":     "stdout '\"equal\":true'\n",

		"export":  digestEnd + "ocikit diff rootfs rootfs.tar --ignore times --ignore owner\n",
		"extract": "ocikit diff rootfs rootfs.new --ignore times --ignore owner\nexists bundle/config.json bundle/rootfs/bin/hello\n",

		"save":      carried,
		"load":      carried,
		"inventory": "! ocikit unbundle elsewhere update.tar\nstatus 1\nocikit unbundle app update.tar\n", // it leaves out what app has
		"bundle":    carried,
		"unbundle":  carried,
		"split":     carried,
		"join":      carried,

		"push":               "ocikit registry tags $REGISTRY/hello\nstdout latest\nocikit registry catalog $REGISTRY\nstdout '^mirror'\nexists push.sh\n",
		"pull":               "stdout $REGISTRY/hello:latest\nocikit verify store\ncat images.lock\nstdout sha256\n",
		"upload start":       "ocikit upload status --session up.json\nstdout '^0$'\n",
		"upload chunk":       "stdout digest\nocikit digest layer.tar.gz > d\nset D d\nocikit upload mount $REGISTRY/copy $D --from hello\nstdout $D\n",
		"upload status":      "stdout '^0$'\n",
		"upload finish":      "stdout '\"digest\":\"sha256:'\nocikit registry get --blob $REGISTRY/hello@$(ocikit digest layer.tar.gz) -o back\ncmp back layer.tar.gz\n",
		"upload cancel":      "! stdout .\n",
		"upload mount":       "ocikit registry get --blob $REGISTRY/copy@$(ocikit digest layer.tar.gz) -o back\ncmp back layer.tar.gz\n",
		"upload blob":        "ocikit registry get --blob $REGISTRY/hello@$(ocikit digest layer.tar.gz) -o back\ncmp back layer.tar.gz\n",
		"registry ping":      "stdout '^http://'\n",
		"registry token":     "stdout '\"scheme\":\"none\"'\n",
		"registry tags":      "stdout '^latest$'\nstdout '^old$'\n",
		"registry catalog":   "stdout '^hello$'\n",
		"registry head":      "stdout '\"digest\":\"sha256:'\n",
		"registry get":       "stdout '\"layers\"'\n",
		"registry put":       "stdout '\"digest\":\"sha256:'\nocikit registry head $REGISTRY/hello:latest\n",
		"registry delete":    "ocikit registry tags $REGISTRY/hello\n! stdout old\nstdout latest\n",
		"registry referrers": "! stdout .\n",
		"registry probe":     "stdout '^total: .* requests'\nocikit registry tags $REGISTRY/hello\n! stdout probe\n",
		"login":              "cat home/.docker/config.json\nstdout auths\n",
		"logout":             "! exists home/.docker/config.json\n",

		"explain": "stdout '^all right'\nstdout '^1 request,'\n",
		"replay":  "stdout 'total: 1 the same'\n",

		"help":       "stdout descriptor\n",
		"completion": "stdout 'app:latest'\ncat ocikit.bash\nstdout complete\n",
		"version":    "stdout ocikit\n",

		"help descriptors":     "ocikit files app\n" + hello,
		"help names":           "ocikit registry catalog $REGISTRY\nstdout '^copies'\n",
		"help layouts":         "! stdout .\n",
		"help reproducibility": digestEnd,
		"help status":          "! stdout .\n",
		"help uploads":         "stdout '\"digest\":\"sha256:'\n",
		"help credentials":     "stdout scheme\n",
		"help network":         "stdout body-limit\n",
		"help deltas":          "stdout '\"action\"'\n",
		"help faults":          "stdout blob-slow\n",
		"help tools":           "stdout index.json\n",
		"help json":            "! exists copied\n",
	}
}

// The examples of help are what newcomers type first: each must run as it stands, beside a
// tree, an image and a registry as README makes them, and have the effect that it claims.
func TestExamples(t *testing.T) {
	examples := map[string]string{}
	for _, c := range commands() {
		examples[c.Name] = c.Example
	}
	for _, topic := range topics() {
		examples["help "+topic.Name] = topic.Example
	}
	for name := range exampleEffects() {
		if _, ok := examples[name]; !ok {
			t.Errorf("%s has no example", name)
		}
	}
	for name, example := range examples {
		if name == "serve" || name == "tap" {
			continue // they do not end by themselves; see TestServeExample
		}
		effect, ok := exampleEffects()[name]
		if !ok {
			t.Errorf("%s: nothing says what its example is to have done, see exampleEffects", name)
		}
		t.Run(name, func(t *testing.T) {
			file := t.TempDir() + "/example.txt"
			body := strings.ReplaceAll(example, "localhost:5000", "$REGISTRY") + "\n"
			if body != example+"\n" {
				body = exampleRegistry + body
			}
			writeTestFile(t, file, examplePreamble+body+effect+exampleFiles)
			runScript(t, file)
		})
	}
}

func TestServeExample(t *testing.T) {
	t.Chdir(t.TempDir())
	table := commands()
	serve := table[slices.IndexFunc(table, func(c cli.Command) bool { return c.Name == "serve" })]
	args := strings.Fields(serve.Example)
	if len(args) < 3 || args[1] != "serve" || args[len(args)-1] != "127.0.0.1:5000" {
		t.Fatalf("example %q: want one with the address at its end", args)
	}
	address := startServe(t, args[2:len(args)-2]...) // on a free port
	if status, _, errs := runOcikit(t.Context(), nil, "registry", "ping", address); status != 0 {
		t.Errorf("ping %s: status %d, %s", address, status, errs)
	}

	tap := table[slices.IndexFunc(table, func(c cli.Command) bool { return c.Name == "tap" })]
	args = strings.Fields(strings.ReplaceAll(tap.Example, "localhost:5000", address))
	if len(args) < 3 || args[1] != "tap" || args[len(args)-1] != "127.0.0.1:5001" {
		t.Fatalf("example %q: want one with the address at its end", args)
	}
	before := startListener(t, "tap", args[2:len(args)-2]...)
	if status, _, errs := runOcikit(t.Context(), nil, "registry", "ping", before); status != 0 {
		t.Errorf("ping through the tap %s: status %d, %s", before, status, errs)
	}
	if data, err := os.ReadFile("recording"); err != nil || strings.Count(string(data), "\n") < 1 {
		t.Errorf("the recording: %v\n%s", err, data)
	}
}

// examplePreamble makes what examples begin with.
const examplePreamble = `mkdir rootfs/bin
cp hello rootfs/bin/hello
ocikit tar rootfs -o layer.tar
ocikit gzip layer.tar -o layer.tar.gz
ocikit config --layer layer.tar -o config.json
ocikit init app
ocikit layer app layer.tar | ocikit config app | ocikit manifest app | ocikit tag app:latest
`

const exampleRegistry = `registry REGISTRY layouts
ocikit push app $REGISTRY/hello:latest
ocikit push app $REGISTRY/hello:old
`

const exampleFiles = "-- hello --\n#!/bin/sh\necho hello\n-- hello.txt --\nhello\n-- sbom.json --\n{}\n-- recording --\n" + recordingFile

// recordingFile is a recording of one exchange.
const recordingFile = `{"ocikitRecording":1,"registry":"http://localhost:5000","started":"2026-01-01T00:00:00Z"}` + "\n" +
	`{"n":1,"time":"2026-01-01T00:00:00Z","method":"GET","url":"http://localhost:5000/v2/","endpoint":"end-1","status":200,"sent":0,"received":2,"timing":{"total":1},"request":{},"asked":{"size":0},"answered":{"size":2,"text":"{}"}}` + "\n"
