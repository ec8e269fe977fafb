package registry

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
)

const (
	helperTimeout = 30 * time.Second
	helperOutput  = 64 << 10
)

var helperName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9._-]+$`) })

// runHelper asks docker-credential-NAME for the registry's credentials. No credentials give
// nil; anything else that is not an answer is an error. What the helper prints may hold the
// secret and is never repeated, besides its stderr, without what stdout says too.
func (c *Client) runHelper(ctx context.Context, name, file string) (*credential, error) {
	if !helperName().MatchString(name) || strings.Trim(name, ".") == "" {
		return nil, fmt.Errorf("file %q: helper %s: want a plain name", file, quote(name))
	}
	program := "docker-credential-" + name
	path, err := c.lookPath(program)
	if err != nil {
		return nil, fmt.Errorf("file %q: helper %s: %w", file, quote(program), err)
	}
	servers := []string{c.ref.Host, "https://" + c.ref.Host}
	if c.ref.Host == hubHost {
		servers = []string{hubKey}
	}
	for _, server := range servers {
		k, err := c.askHelper(ctx, path, server)
		if err != nil {
			return nil, fmt.Errorf("helper %s: %w", quote(program), err)
		}
		if k != nil {
			k.info = CredentialInfo{Source: "helper", File: file, Key: server, Helper: program}
			return k, nil
		}
	}
	return nil, nil
}

var errNoHelper = errors.New("no such program in PATH")

// lookPath searches PATH, absolute entries only: a program in the current directory is not
// what the user meant.
func (c *Client) lookPath(program string) (string, error) {
	for _, dir := range filepath.SplitList(c.o.Getenv("PATH")) {
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

func (c *Client) askHelper(ctx context.Context, path, server string) (*credential, error) {
	limit := min(helperTimeout, c.o.Timeout)
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit))
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "get")
	cmd.Stdin = strings.NewReader(server)
	var stdout, stderr capped
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	err := cmd.Run()
	var answer struct{ Username, Secret string }
	isAnswer := !stdout.over && json.Unmarshal(stdout.b.Bytes(), &answer) == nil
	if text := strings.TrimSpace(stderr.b.String()); text != "" {
		var red redactor
		red.add(append(strings.Fields(stdout.b.String()), answer.Secret)...)
		c.notice(fmt.Sprintf("%s says: %s", filepath.Base(path), quote(red.text(text))))
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case errors.As(err, &exit) && notFound(stdout.b.String()):
		return nil, nil
	case err != nil:
		return nil, err // the exit status
	}
	if !isAnswer {
		return nil, errors.New("its answer is not the JSON of a credential helper")
	}
	if answer.Username == "<token>" {
		return &credential{identityToken: answer.Secret}, nil
	}
	return &credential{username: answer.Username, password: answer.Secret}, nil
}

// notFound recognizes the message that helpers of all platforms agree on.
func notFound(out string) bool {
	return strings.TrimSpace(out) == "credentials not found in native keychain"
}

// A capped buffer keeps the beginning of what is written.
type capped struct {
	b    bytes.Buffer
	over bool
}

func (c *capped) Write(p []byte) (int, error) {
	if room := helperOutput - c.b.Len(); len(p) > room {
		c.over = true
		c.b.Write(p[:room])
		return len(p), nil
	}
	return c.b.Write(p)
}

var _ io.Writer = (*capped)(nil)
