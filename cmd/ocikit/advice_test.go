package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/cmd/ocikit/internal/commonflags"
	"ocikit/oci/registry"
	"ocikit/oci/registry/auth"
)

// ContainerSolutions/docker-registry-proxy#1: a hint names flags of the command that prints it, or
// a whole command. Every error that there is advice for, in every command.
func TestAdviceFitsTheCommand(t *testing.T) {
	const url = "https://r.test/v2/app/blobs/uploads/"
	samples := []error{
		&registry.StatusError{Method: "PATCH", URL: url, Status: 413, Server: "nginx"},
		&registry.StatusError{Method: "PUT", URL: "https://r.test/v2/app/manifests/v1", Status: 413},
		&registry.StatusError{Method: "POST", URL: url, Status: 404, Errors: []registry.ErrorInfo{{Code: "NAME_UNKNOWN"}}},
		&registry.StatusError{Method: "POST", URL: url, Status: 405},
		&registry.StatusError{Method: "PUT", URL: "https://r.test/v2/app/manifests/sha512:ab", Status: 400, Errors: []registry.ErrorInfo{{Code: "DIGEST_INVALID"}}},
		&registry.StatusError{Method: "GET", URL: url, Status: 401},
		&registry.StatusError{Method: "GET", URL: url, Status: 404, Body: "<html>"},
		&registry.StatusError{Method: "POST", URL: url, Status: 404, Body: "404 page not found"},
		&registry.StatusError{Method: "GET", URL: url, Status: 400, Body: "Client sent an HTTP request to an HTTPS server."},
		&registry.StatusError{Method: "GET", URL: url, Status: 403, Body: "You have exceeded a secondary rate limit"},
		&registry.StatusError{Method: "GET", URL: url, Status: 429, RetryAfter: 3600e9},
		&registry.ConnError{Method: "GET", URL: url, Err: x509.UnknownAuthorityError{}},
		&registry.ConnError{Method: "GET", URL: url, Err: &net.DNSError{Err: "no such host", Name: "r.test", IsNotFound: true}},
		&auth.GrantError{Less: "pull, not push", Given: true, Err: errors.New("status 401")},
		&auth.UntrustedError{Host: "auth.test", Err: errors.New("status 401")},
	}
	for _, err := range samples {
		given := 0
		for _, c := range lookup().Commands {
			has := func(flag string) bool { return lookup().HasFlag(c.Name, flag) }
			hint := commonflags.Advise(err, has)
			if hint != "" {
				given++
			}
			if fault := hintFault(c.Name, hint); fault != "" {
				t.Errorf("%s after %v: %s", c.Name, err, fault)
			}
		}
		if given == 0 {
			t.Errorf("%v: no command has a hint", err)
		}
	}
}

// lookup returns the table for tests that ask it and run nothing: it is made once.
var lookup = sync.OnceValue(program)

// hintFault says what is wrong with a hint of a command: a flag that the command does not have, or,
// inside a quoted command line, a command that does not exist or a flag that it does not have. The
// tests ask it of every hint that they see, see script.command.
func hintFault(command, hint string) string {
	if strings.HasPrefix(hint, "usage: ") || strings.Contains(hint, " is a flag of ") {
		return ""
	}
	quoted := regexp.MustCompile("`[^`]*`")
	flags := regexp.MustCompile(`(?:^|[^-\w])--([a-z][a-z0-9-]*)`)
	check := func(command, text string) string {
		for _, m := range flags.FindAllStringSubmatch(text, -1) {
			if !lookup().HasFlag(command, m[1]) {
				return fmt.Sprintf("hint %q: %q has no flag --%s", hint, command, m[1])
			}
		}
		return ""
	}

	// Of a pipe each stage is looked at; those of other programs are theirs.
	for _, line := range quoted.FindAllString(hint, -1) {
		for stage := range strings.SplitSeq(strings.Trim(line, "`"), "|") {
			words := strings.Fields(stage)
			if len(words) < 2 || words[0] != "ocikit" {
				continue
			}
			c, rest, err := lookup().Find(words[1:])
			if err != nil && len(words) > 2 || err != nil && !isCommandGroup(words[1]) {
				return fmt.Sprintf("hint %q: %v", hint, err)
			}
			if fault := check(c.Name, strings.Join(rest, " ")); err == nil && fault != "" {
				return fault
			}
		}
	}
	return check(command, quoted.ReplaceAllString(hint, ""))
}

// isCommandGroup reports whether a word begins the names of commands, as "registry" does.
func isCommandGroup(word string) bool {
	return slices.ContainsFunc(lookup().Commands, func(c cli.Command) bool { return strings.HasPrefix(c.Name, word+" ") })
}

// checkHints looks at the hints that a command has printed.
func checkHints(args []string, stderr string) string {
	if !strings.Contains(stderr, "hint: ") {
		return "" // as nearly always
	}
	c, _, err := lookup().Find(args)
	if err != nil {
		return "" // the hint is about the command line
	}
	for line := range strings.Lines(stderr) {
		hint, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "hint: ")
		if !ok {
			continue
		}
		if fault := hintFault(c.Name, hint); fault != "" {
			return fault
		}
	}
	return ""
}

// Hints that no test brings about are read in the sources: the flags in them are flags of a command
// of their package, or of the command that they quote.
func TestHintsInSources(t *testing.T) {
	byPackage := map[string][]string{}
	hints := map[string][]string{}
	note := func(file string, e ast.Expr) {
		lit, ok := e.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Dir(file)
		hints[dir] = append(hints[dir], text)
	}
	files, err := filepath.Glob("internal/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") { // what tests give a name is not a command
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "WithHint" {
					note(file, n.Args[1])
				}
			case *ast.KeyValueExpr:
				switch key, _ := n.Key.(*ast.Ident); {
				case key == nil:
				case key.Name == "Advice":
					note(file, n.Value)
				case key.Name == "Name":
					if lit, ok := n.Value.(*ast.BasicLit); ok {
						dir := filepath.Dir(file)
						byPackage[dir] = append(byPackage[dir], strings.Trim(lit.Value, `"`))
					}
				}
			}
			return true
		})
	}

	seen := 0
	for dir, list := range hints {
		owners := byPackage[dir]
		if len(owners) == 0 {
			for _, c := range commands() { // a package that all commands use
				owners = append(owners, c.Name)
			}
		}
		for _, hint := range list {
			seen++
			if !slices.ContainsFunc(owners, func(name string) bool { return hintFault(name, hint) == "" }) {
				t.Errorf("%s: %s", dir, hintFault(owners[0], hint))
			}
		}
	}
	if seen < 40 {
		t.Errorf("%d hints were found: are they written in another way now?", seen)
	}
}
