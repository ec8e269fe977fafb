package auth

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"time"

	"ocikit/oci/registry/wire"
)

const (
	helperTimeout = 30 * time.Second
	helperOutput  = 64 << 10
)

var helperName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]+$`) })

// Helpers remembers the answers of credential helpers, failures included, for all Authenticators that
// share it: each helper is asked once for each registry, and one helper runs at a time. Its zero
// value is ready for use. It is safe for concurrent use.
type Helpers struct {
	mu    sync.Mutex
	asked map[[2]string]helperAnswer // by path of the program and registry
}

type helperAnswer struct {
	cred *credential
	err  error
}

// get returns the answer that is remembered, or that of ask.
func (h *Helpers) get(path, server string, ask func() (*credential, error)) (*credential, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if known, ok := h.asked[[2]string{path, server}]; ok {
		return known.cred, known.err
	}
	cred, err := ask()
	if h.asked == nil {
		h.asked = map[[2]string]helperAnswer{}
	}
	h.asked[[2]string{path, server}] = helperAnswer{cred, err}
	return cred, err
}

// runHelper asks docker-credential-NAME for the registry's credentials; nil means that it has none.
// A helper that cannot be run, fails, or answers something else gives an error.
func (a *Authenticator) runHelper(ctx context.Context, name, file string) (*credential, error) {
	path, err := a.findHelper(name)
	if err != nil {
		return nil, fmt.Errorf("file %q: %w", file, err)
	}

	program, server := filepath.Base(path), helperKey(a.o.Host)
	k, err := a.o.Helpers.get(path, server, func() (*credential, error) { return a.askHelper(ctx, path, server) })
	if err != nil {
		return nil, fmt.Errorf("helper %s: %w", wire.Quote(program), err)
	}

	if k == nil {
		return nil, nil
	}

	found := *k
	found.info = CredentialInfo{Source: "helper", File: file, Key: server, Helper: program}
	return &found, nil
}

// helperKey is the name that Docker stores the credentials of a registry under.
func helperKey(host string) string {
	if host == HubHost {
		return hubKey
	}
	return host
}

// findHelper returns the path of docker-credential-NAME.
func (a *Authenticator) findHelper(name string) (string, error) {
	if !helperName().MatchString(name) || strings.Trim(name, ".") == "" {
		return "", fmt.Errorf("helper %s: want a plain name", wire.Quote(name))
	}
	program := "docker-credential-" + name
	path, err := a.lookPath(program)
	if err != nil {
		return "", fmt.Errorf("helper %s: %w", wire.Quote(program), err)
	}
	return path, nil
}

var errNoHelper = errors.New("no such program in PATH")

// lookPath searches PATH, absolute entries only: a program in the current directory is not
// what the user meant.
func (a *Authenticator) lookPath(program string) (string, error) {
	for _, dir := range filepath.SplitList(a.o.Getenv("PATH")) {
		if !filepath.IsAbs(dir) {
			continue
		}
		for _, ext := range helperExts() {
			name := filepath.Join(dir, program+ext)
			info, err := os.Stat(name)
			if err == nil && info.Mode().IsRegular() && (runtime.GOOS == "windows" || info.Mode()&0o111 != 0) {
				return name, nil
			}
		}
	}
	return "", errNoHelper
}

func helperExts() []string {
	if runtime.GOOS == "windows" {
		return []string{".exe", ".bat", ".cmd"}
	}
	return []string{""}
}

// askHelper asks for the credentials that are stored for server. What the helper prints when it
// delivers is the secret and is never repeated. When it fails, its words, which helpers print on
// standard output, are the only ones that say why; they are shown unless they could be an answer.
func (a *Authenticator) askHelper(ctx context.Context, path, server string) (*credential, error) {
	stdout, err := a.callHelper(ctx, path, "get", server)
	if failed, ok := errors.AsType[*helperError](err); ok && notFound(failed.words) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}

	var answer struct{ Username, Secret string }
	if stdout.over || json.Unmarshal(stdout.b.Bytes(), &answer) != nil {
		return nil, errors.New("its answer is not the JSON of a credential helper")
	}

	// Docker's own convention for an identity token.
	if answer.Username == "<token>" {
		return &credential{identityToken: answer.Secret}, nil
	}

	return &credential{username: answer.Username, password: answer.Secret}, nil
}

// A helperError is an exit status that is not 0, and what the helper said.
type helperError struct {
	exit  error
	words string // what it printed on standard output, without anything that may be a secret
}

func (e *helperError) Error() string {
	if e.words == "" {
		return e.exit.Error()
	}
	return e.exit.Error() + ": " + wire.Quote(e.words)
}

func (e *helperError) Unwrap() error { return e.exit }

// callHelper runs a helper with a verb of its protocol and the input of that verb, and returns its
// standard output. Its standard error becomes a notice, without the words that standard output has,
// too: those may be the secret.
func (a *Authenticator) callHelper(ctx context.Context, path, verb, input string) (*headBuffer, error) {
	limit := min(helperTimeout, a.o.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, verb)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr headBuffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr

	// A child of the helper may keep the pipes open after the helper has ended. What the helper wrote
	// is there by then.
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil {
		err = nil
	}

	// What a helper says on standard error is meant for the user, whether it succeeds or not.
	if text := strings.TrimSpace(stderr.b.String()); text != "" {
		a.c.Notice(fmt.Sprintf("%s says: %s", filepath.Base(path), wire.Quote(withoutWords(text, stdout.b.String()))))
	}

	switch exit, ok := errors.AsType[*exec.ExitError](err); {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case ok:
		return nil, &helperError{exit, sentence(stdout.b.String())}
	case err != nil:
		return nil, err
	}

	return &stdout, nil
}

// withoutWords returns text without the words of an answer, and without the secret in it.
func withoutWords(text, answer string) string {
	var doc struct{ Secret string }
	json.Unmarshal([]byte(answer), &doc)
	var red wire.Redactor
	red.Hide(append(strings.Fields(answer), doc.Secret)...)
	return red.Text(text)
}

// sentence returns what a helper that failed printed, if it is something said to people: several
// words, and no JSON. A word alone could be a secret.
func sentence(out string) string {
	out = strings.TrimSpace(out)
	if strings.ContainsAny(out, "{}") || len(strings.Fields(out)) < 3 {
		return ""
	}
	return out
}

// notFound recognizes the message that helpers of all platforms agree on.
func notFound(out string) bool {
	return strings.TrimSpace(out) == "credentials not found in native keychain"
}

// A headBuffer keeps the beginning of what is written.
type headBuffer struct {
	b    bytes.Buffer
	over bool
}

func (c *headBuffer) Write(p []byte) (int, error) {
	if room := helperOutput - c.b.Len(); len(p) > room {
		c.over = true
		c.b.Write(p[:room])
		return len(p), nil
	}
	return c.b.Write(p)
}

var _ io.Writer = (*headBuffer)(nil)
