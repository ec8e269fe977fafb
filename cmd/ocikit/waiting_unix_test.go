//go:build unix

package main

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
)

// A first signal ends whatever waits for an input: commands beside the operands and flags that
// name files, each a pipe that nobody opens, and one that nobody writes into.
func TestInterruptedWhileWaiting(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, line := range []string{"init app", "init far"} {
		if status, _, errs := runOcikit(t.Context(), strings.NewReader(""), strings.Fields(line)...); status != 0 {
			t.Fatal(errs)
		}
	}
	os.Mkdir("empty", 0o755)
	session := `{"version":1,"registry":"http://127.0.0.1:1","repository":"app","location":"http://127.0.0.1:1/x","offset":0,"serverOffset":0,"algorithm":"sha256"}`
	if err := os.WriteFile("session", []byte(session), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("pipe", 0o600); err != nil {
		t.Skip(err)
	}

	// A pipe that nobody reads is waited for as well. It is another one: what was stopped here still waits
	// for it, in the same process.
	if err := syscall.Mkfifo("unread", 0o600); err != nil {
		t.Skip(err)
	}
	outputs := []string{
		"tar empty -o unread",
		"manifest --artifact-type a/b -o unread",
		"registry ping 127.0.0.1:1 --trace=unread",
		"tap 127.0.0.1:1 --listen 127.0.0.1:0 --record unread",
		"tap 127.0.0.1:1 --listen 127.0.0.1:0 --har unread",
	}
	for _, written := range []bool{false, true} {
		if written {
			outputs = nil
			f, err := os.OpenFile("pipe", os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
		}
		for _, line := range append(outputs,
			"tar empty --exclude-from pipe",
			"retar pipe",
			"gzip pipe",
			"zstd pipe",
			"digest pipe",
			"diffid pipe",
			"diff empty pipe",
			"why pipe absent",
			"layer app pipe",
			"config --layer pipe",
			"config --from pipe",
			"config --merge-patch pipe",
			"manifest --config pipe",
			"index --manifest pipe",
			"put app pipe",
			"load far pipe",
			"unbundle far pipe",
			"bundle app --have pipe",
			"upload chunk pipe --session absent",
			"mutate app --merge-patch pipe -t x",
			"registry ping 127.0.0.1:1 --ca-file pipe",
			"registry ping 127.0.0.1:1 --cert-file pipe --key-file pipe",
			"pull --from-file pipe far",
			"pull --from-file absent --lock pipe far",
			"pull 127.0.0.1:1/a far --authfile pipe",
			"serve empty --listen 127.0.0.1:0 --tls-cert pipe --tls-key pipe",
			"serve empty --listen 127.0.0.1:0 --htpasswd pipe",
			"tap 127.0.0.1:1 --listen 127.0.0.1:0 --tls-cert pipe --tls-key pipe",
			"explain pipe",
			"replay pipe 127.0.0.1:1",
			"upload chunk --session pipe -",
			"upload chunk --session session pipe",
			"upload finish --session session pipe",
			"ls pipe",
			"verify pipe",
			"copy pipe far",
			"extract pipe out",
			"init pipe",
			"tag pipe:v1",
			"gc pipe",
			"flatten pipe -t x",
			"unbundle pipe absent",
			"bundle app --delta --have absent --base pipe",
			"rebase app --old-base pipe --new-base app -t x",
			"split absent pipe --size 1MiB",
			"join pipe",
			"serve pipe --listen 127.0.0.1:0",
		) {
			t.Run(line, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				go func() {
					time.Sleep(20 * time.Millisecond)
					cancel(cli.ErrInterrupted)
				}()
				status, out, errs := runOcikit(ctx, strings.NewReader(""), strings.Fields(line)...)
				if status == 0 || out != "" {
					t.Errorf("status %d: %q, %q", status, out, errs)
				}
			})
		}
	}
}
