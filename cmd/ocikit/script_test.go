package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
)

var Update = flag.Bool("update", false, "rewrite golden files and golden parts of scripts")

// TestScripts runs testdata/script/*.txt. A script is shell-like lines, then files:
//
//	# a comment
//	ocikit tar tree | ocikit digest > out     a pipeline, run in this process, real pipes
//	! ocikit verify torn                      the last command must fail; others may
//	status 1                                  the exit status of the last command
//	stdout 'regexp'                           what the last pipeline printed; also stderr
//	! stderr .                                nothing was printed
//	cmp stdout want                           exact bytes, rewritten with -update
//	start NAME ocikit serve layouts           a command that answers on an address, which is in $NAME then
//	end NAME                                  it is interrupted; status, stdout and stderr are its own
//	port NAME                                 an address that nobody listens on is in $NAME then
//	env NAME=value; set NAME file; [unix]; [root]; skip
//	-- want --
//	…
//
// Every command of a pipeline must succeed unless the line begins with "!". Besides ocikit
// there are a few small commands, see scriptTools.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		abs, err := filepath.Abs(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { runScript(t, abs) })
	}
}

// commands returns the table.
func commands() []cli.Command { return lookup().Commands }

// A script is one file under test.
type script struct {
	t      *testing.T
	file   string
	vars   map[string]string
	line   int
	status int // of the last command of the last pipeline
	stdout []byte
	stderr []byte
	goldens

	listeners map[string]*listener // that were started, by name
}

func runScript(t *testing.T, file string) {
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	body, files := parseArchive(string(data))
	work := t.TempDir()
	t.Chdir(work)
	for _, f := range files {
		writeTestFile(t, f.name, f.data)
	}
	s := &script{t: t, file: file, vars: map[string]string{"WORK": work, "HOME": filepath.Join(work, "home")}}
	s.goldens = goldens{body, files, false}
	for i, line := range strings.Split(body, "\n") {
		s.line = i + 1
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if !s.run(line) {
			break
		}
	}
	if s.changed {
		if err := os.WriteFile(file, []byte(s.format()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *script) fatalf(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s:%d: %s\n[stdout]\n%s[stderr]\n%s", filepath.Base(s.file), s.line, fmt.Sprintf(format, args...), s.stdout, s.stderr)
}

// run runs one line; false ends the script.
func (s *script) run(line string) bool {
	if cond, rest, ok := strings.Cut(line, "] "); ok && strings.HasPrefix(cond, "[") {
		if !s.holds(cond[1:]) {
			return true
		}
		line = rest
	}
	line, negated := strings.CutPrefix(line, "! ")
	stages := s.parse(line)
	first := stages[0].words
	switch first[0] {
	case "skip":
		s.t.Skip(strings.Join(first[1:], " "))
	case "stop":
		return false
	case "status":
		if want, _ := strconv.Atoi(first[1]); s.status != want {
			s.fatalf("status %d, want %d", s.status, want)
		}
	case "stdout", "stderr":
		out := map[string][]byte{"stdout": s.stdout, "stderr": s.stderr}[first[0]]
		if regexp.MustCompile("(?m)"+first[1]).Match(out) == negated {
			s.fatalf("%s: match of %q is %t", first[0], first[1], negated)
		}
	case "cmp":
		s.compare(first[1], first[2])
	case "exists":
		for _, name := range first[1:] {
			if _, err := os.Lstat(name); (err == nil) == negated {
				s.fatalf("%s exists: %t", name, err == nil)
			}
		}
	case "env":
		k, v, _ := strings.Cut(first[1], "=")
		s.vars[k] = v
	case "set": // set NAME FILE: a variable from a file or stdout, trimmed
		s.vars[first[1]] = strings.TrimSpace(string(s.read(first[2])))
	case "registry": // registry NAME DIR: a registry over layouts, its address in a variable
		server := httptest.NewServer(newTestRegistry(s.t, first[2]))
		s.t.Cleanup(server.Close)
		s.vars[first[1]] = strings.TrimPrefix(server.URL, "http://")
	case "port": // port NAME: an address that is free until a line of the script takes it
		s.vars[first[1]] = freeAddress(s.t)
	case "start":
		if s.listeners == nil {
			s.listeners = map[string]*listener{}
		}
		l := newListener(s.t, func(k string) string { return s.vars[k] }, append([]string{first[3], "--listen", "127.0.0.1:0"}, first[4:]...))
		s.listeners[first[1]], s.vars[first[1]] = l, l.address
	case "end":
		s.status, s.stdout, s.stderr = s.listeners[first[1]].end()
	default:
		s.pipeline(stages, negated)
	}
	return true
}

func (s *script) holds(cond string) bool {
	switch cond {
	case "unix":
		return runtime.GOOS != "windows"
	case "root":
		return os.Geteuid() == 0
	case "!root":
		return os.Geteuid() != 0
	}
	return cond == runtime.GOOS
}

func (s *script) read(name string) []byte {
	switch name {
	case "stdout":
		return s.stdout
	case "stderr":
		return s.stderr
	}
	data, err := os.ReadFile(name)
	if err != nil {
		s.fatalf("%v", err)
	}
	return data
}

func (s *script) compare(got, want string) {
	g := s.read(got)
	if *Update && s.set(want, g) {
		return
	}
	if w := s.read(want); !bytes.Equal(g, w) && !bytes.Equal(terminated(g), w) {
		s.fatalf("%s differs from %s:\n[got]\n%s\n[want]\n%s", got, want, g, w)
	}
}

// terminated returns data as it stands in a script: a file there ends with its line. Whether
// a document ends with a newline of its own is told by its digest.
func terminated(data []byte) []byte {
	if len(data) > 0 && data[len(data)-1] != '\n' {
		data = append(bytes.Clone(data), '\n')
	}
	return data
}

// A stage is one command of a pipeline.
type stage struct {
	words         []string
	stdin, stdout string // files of < and >
	appendTo      bool
}

// parse splits a line into stages and words: '…' is literal, in "…" and outside $NAME and
// $(PIPELINE) are replaced.
func (s *script) parse(line string) []stage {
	stages := []stage{{}}
	var word strings.Builder
	inWord, quote := false, byte(0)
	target := (*string)(nil)
	end := func() {
		if !inWord {
			return
		}
		cur := &stages[len(stages)-1]
		if target != nil {
			*target = word.String()
		} else {
			cur.words = append(cur.words, word.String())
		}
		target, inWord = nil, false
		word.Reset()
	}
	for i := 0; i < len(line); i++ {
		c := line[i]
		cur := &stages[len(stages)-1]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '$':
			word.WriteByte(c)
		case c == quote:
			quote = 0
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == '$' && strings.HasPrefix(line[i+1:], "("):
			inner, _, _ := strings.Cut(line[i+2:], ")")
			word.WriteString(s.output(inner))
			inWord = true
			i += len(inner) + 2
		case c == '$':
			name := regexp.MustCompile(`^\w+`).FindString(line[i+1:])
			word.WriteString(s.vars[name])
			inWord = true
			i += len(name)
		case c == ' ':
			end()
		case c == '|':
			end()
			stages = append(stages, stage{})
		case c == '<':
			end()
			target = &cur.stdin
		case c == '>':
			end()
			cur.appendTo = cur.stdout != "" || i+1 < len(line) && line[i+1] == '>'
			if cur.appendTo {
				i++
			}
			target = &cur.stdout
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	end()
	for _, st := range stages {
		if len(st.words) == 0 {
			s.fatalf("no command in %q", line)
		}
	}
	return stages
}

// output runs a pipeline and returns what it prints, without the newline at its end.
func (s *script) output(line string) string {
	s.pipeline(s.parse(line), false)
	return strings.TrimSuffix(string(s.stdout), "\n")
}

// pipeline runs the stages, all of which must succeed, or the last of which must fail.
func (s *script) pipeline(stages []stage, negated bool) {
	statuses := s.execute(stages)
	if negated {
		if s.status == 0 {
			s.fatalf("status 0, want a failure")
		}
		return
	}
	if i := slices.IndexFunc(statuses, func(n int) bool { return n != 0 }); i >= 0 {
		s.fatalf("%q: status %d", stages[i].words, statuses[i])
	}
}

// execute runs the stages at once, joined by pipes of the system, and returns the status of
// each.
func (s *script) execute(stages []stage) []int {
	s.stdout, s.stderr = nil, nil
	var stdout, stderr lockedBuffer
	statuses := make([]int, len(stages))
	var wg sync.WaitGroup
	var next io.ReadCloser = io.NopCloser(strings.NewReader(""))
	for i, st := range stages {
		in, out := next, io.WriteCloser(nopCloser{&stdout})
		if i < len(stages)-1 {
			r, w, err := os.Pipe()
			if err != nil {
				s.t.Fatal(err)
			}
			next, out = r, w
		}
		if st.stdin != "" {
			f, err := os.Open(st.stdin)
			if err != nil {
				s.fatalf("%v", err)
			}
			in = f
		}
		if st.stdout != "" {
			mode := os.O_WRONLY | os.O_CREATE | os.O_TRUNC
			if st.appendTo {
				mode = os.O_WRONLY | os.O_CREATE | os.O_APPEND
			}
			f, err := os.OpenFile(st.stdout, mode, 0o644)
			if err != nil {
				s.fatalf("%v", err)
			}
			out = f
		}
		wg.Go(func() {
			defer in.Close()
			defer out.Close()
			statuses[i] = s.command(st, in, out, &stderr)
		})
	}
	wg.Wait()
	s.status = statuses[len(stages)-1]
	s.stdout, s.stderr = stdout.Bytes(), stderr.Bytes()
	return statuses
}

func (s *script) command(st stage, in io.Reader, out, stderr io.Writer) int {
	words := st.words
	if words[0] == "ocikit" {
		var said lockedBuffer
		env := &cli.Env{
			Stdin: in, Stdout: out, Stderr: io.MultiWriter(stderr, &said), InNull: st.stdin == os.DevNull,
			Getenv:  func(k string) string { return s.vars[k] },
			Now:     time.Now,
			Version: "v0.0.0-test 0123456789abcdef",
		}
		status := program().Run(s.t.Context(), env, words[1:])
		if fault := checkHints(words[1:], string(said.Bytes())); fault != "" {
			s.t.Errorf("%s: %q: %s", s.file, words, fault)
		}
		return status
	}
	tool := scriptTools()[words[0]]
	if tool == nil {
		fmt.Fprintf(stderr, "no such command: %s\n", words[0])
		return 127
	}
	if err := tool(words[1:], in, out); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", words[0], err)
		return 1
	}
	return 0
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) Bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.b.Bytes())
}

// An archived file stands behind the lines of a script.
type archived struct{ name, data string }

// goldens are the files of a script, which -update rewrites.
type goldens struct {
	body    string
	files   []archived
	changed bool
}

var fileMark = regexp.MustCompile(`(?m)^-- (\S+) --\n`)

func parseArchive(text string) (body string, files []archived) {
	marks := fileMark.FindAllStringSubmatchIndex(text, -1)
	if len(marks) == 0 {
		return text, nil
	}
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		files = append(files, archived{text[m[2]:m[3]], text[m[1]:end]})
	}
	return text[:marks[0][0]], files
}

// set replaces a file of the script, if there is one of this name.
func (g *goldens) set(name string, data []byte) bool {
	data = terminated(data)
	i := slices.IndexFunc(g.files, func(f archived) bool { return f.name == name })
	if i >= 0 && g.files[i].data != string(data) {
		g.files[i].data = string(data)
		g.changed = true
	}
	return i >= 0
}

func (g *goldens) format() string {
	var b strings.Builder
	b.WriteString(g.body)
	for _, f := range g.files {
		fmt.Fprintf(&b, "-- %s --\n%s", f.name, f.data)
	}
	return b.String()
}

func writeTestFile(t *testing.T, name, data string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(data), 0o644); err != nil {
		t.Fatal(err)
	}
}

// newScriptContext is the context of commands that tests run directly.
func runOcikit(ctx context.Context, stdin io.Reader, args ...string) (status int, stdout, stderr string) {
	var out, errs lockedBuffer
	env := &cli.Env{Stdin: stdin, Stdout: &out, Stderr: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Version: "test"}
	status = program().Run(ctx, env, args)
	if fault := checkHints(args, string(errs.Bytes())); fault != "" {
		panic(fault) // it is one of the program, whatever the test is about
	}
	return status, string(out.Bytes()), string(errs.Bytes())
}

// wantRun runs a command that has to end with a status.
func wantRun(t *testing.T, want int, stdin string, args ...string) (out, errs string) {
	t.Helper()
	status, out, errs := runOcikit(t.Context(), strings.NewReader(stdin), args...)
	if status != want {
		t.Fatalf("ocikit %q: status %d, want %d\n%s%s", args, status, want, out, errs)
	}
	return out, errs
}

// mustRun returns what runs commands that have to succeed, and returns what they print.
func mustRun(t *testing.T) func(stdin string, args ...string) string {
	return func(stdin string, args ...string) string {
		t.Helper()
		out, _ := wantRun(t, 0, stdin, args...)
		return out
	}
}
