package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
)

// TestErrors holds what is said when things go wrong. testdata/errors.txt is a transcript:
// "$ " and a command line, its status, and what it prints; -update rewrites all but the
// command lines. The lines run in one directory, one after the other, beside what
// errorsPreamble makes; none changes it. Of a command that is new, -update makes the first lines too.
func TestErrors(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the words of other systems differ")
	}
	file, err := filepath.Abs("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	s := &script{t: t, file: file, vars: map[string]string{"HOME": "home"}}
	writeTestFile(t, "rootfs/bin/hello", "hello\n")
	writeTestFile(t, "text", "neither JSON nor a tar\n")
	writeTestFile(t, "list.json", "[1]\n")
	writeTestFile(t, "object.json", `{"a":1}`)
	writeTestFile(t, "torn.json", `{"schemaVersion":2,`)
	for line := range strings.Lines(errorsPreamble) {
		s.run(strings.TrimSpace(line))
	}
	s.vars["LOCKED"] = startLocked(t)
	if *Update {
		want = append(want, firstErrors(string(want))...)
	}

	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		switch {
		case strings.HasPrefix(line, "$ "):
			got.WriteString(line + s.transcript(strings.TrimSpace(line[2:])))
		case strings.HasPrefix(line, "# "):
			got.WriteString("\n" + line)
		}
	}
	compareGenerated(t, file, strings.TrimPrefix(got.String(), "\n"))
}

// firstErrors returns the lines of commands that the transcript does not have: a flag that is unknown,
// operands that are missing, or else too many, and one that is not there.
func firstErrors(transcript string) string {
	var lines strings.Builder
	for _, c := range commands() {
		if strings.Contains(transcript, "\n# "+c.Name+"\n") {
			continue
		}

		needed, all := 0, strings.Fields(c.Args)
		for _, operand := range all {
			if !strings.HasPrefix(operand, "[") {
				needed++
			}
		}
		wrong := 0
		if needed == 0 {
			wrong = len(all) + 1
		}

		fmt.Fprintf(&lines, "# %s\n", c.Name)
		for _, rest := range []string{" --nonsense", strings.Repeat(" absent", wrong), strings.Repeat(" absent", max(needed, min(len(all), 1)))} {
			fmt.Fprintf(&lines, "$ ocikit %s%s\n", c.Name, rest)
		}
	}
	return lines.String()
}

// startLocked starts a registry that wants a password, and returns its address.
func startLocked(t *testing.T) string {
	status, line, errs := runOcikit(t.Context(), strings.NewReader("secret\n"), "serve", "--make-password", "user")
	if status != 0 {
		t.Fatal(errs)
	}
	writeTestFile(t, "passwords", line)
	return startServe(t, "locked", "--htpasswd", "passwords", "--log", "none")
}

// transcript runs a line and returns what it says. Addresses that change are written as
// people would type them.
func (s *script) transcript(line string) string {
	var replace []string
	for fixed, name := range map[string]string{"localhost:5000": "REGISTRY", "localhost:5001": "LOCKED"} {
		line = strings.ReplaceAll(line, fixed, s.vars[name])
		replace = append(replace, s.vars[name], fixed)
	}
	s.execute(s.parse(line))
	out := strings.NewReplacer(replace...).Replace(string(s.stdout) + string(s.stderr))
	out = uploadID.ReplaceAllString(out, "ID")
	return fmt.Sprintf("status %d\n%s", s.status, out)
}

var uploadID = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// errorsPreamble makes what the lines are about: an image, and what is wrong with its kin.
const errorsPreamble = `ocikit tar rootfs -o layer.tar
ocikit gzip layer.tar -o layer.tar.gz
head -c 1026 layer.tar > torn.tar
head -c 60 layer.tar.gz > torn.tar.gz
ocikit config --layer layer.tar -o config.json
ocikit init app
ocikit layer app layer.tar | ocikit config app | ocikit manifest app | ocikit tag app:latest
ocikit mutate app --label a=b -t v1
ocikit copy app:latest two:a
ocikit copy app:v1 two:b
cp app damaged
ocikit layers damaged | field digest > layer.digest
set LAYER layer.digest
blob damaged $LAYER > path
set BLOB path
chmod 644 $BLOB
flip $BLOB 30
cp app incomplete
blob incomplete $LAYER > path
set BLOB path
rm $BLOB
ocikit init empty
mkdir directory
cp text directory/text
ocikit save app:latest -o app.tar
head -c 3000 app.tar > torn.app.tar
ocikit inventory app > have.txt
ocikit bundle app:v1 --have have.txt -o update.tar
ocikit split --size 4KiB app.tar parts
ocikit split --size 4KiB app.tar broken
rm broken/app.tar.0002
registry REGISTRY layouts
ocikit push app:latest $REGISTRY/hello:latest
ocikit upload start $REGISTRY/hello --session dead.json
cp dead.json used.json
ocikit upload cancel --session used.json
`

// Every command is in the transcript, with a flag that it does not have, with operands that
// are missing or too many, and with something that is not there or not what it should be.
func TestErrorsNameEveryCommand(t *testing.T) {
	data, err := os.ReadFile("testdata/errors.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range commands() {
		lines := regexp.MustCompile(`(?m)^\$ (?:.*\| )?ocikit `+c.Name+`( .*)?\nstatus (\d)`).FindAllStringSubmatch(string(data), -1)
		usage, input, flags := 0, 0, 0
		for _, m := range lines {
			switch {
			case strings.Contains(m[1], "--nonsense"):
				flags++
			case m[2] == "2":
				usage++
			case m[2] != "0":
				input++
			}
		}
		alone := c.Group == cli.GroupHelp // nothing is read
		if flags == 0 || usage == 0 && c.Name != "diffid" && c.Name != "upload cancel" || input == 0 && !alone {
			t.Errorf("%s: testdata/errors.txt has %d lines with --nonsense, %d with wrong operands, %d with wrong input: -update makes the first ones of a new command; add \"$ ocikit %[1]s ...\" for others, then -update", c.Name, flags, usage, input)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^\$ (.*)\nstatus (\d)\n`).FindAllStringSubmatch(string(data), -1) {
		if m[2] == "0" {
			t.Errorf("%s: status 0 among errors", m[1])
		}
	}
}
