package tarutil

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"testing"
	"time"
)

func TestTmp(t *testing.T) {
	if os.Getenv("TPACK") == "" {
		t.Skip()
	}
	h := sha256.New()
	var w io.Writer = h
	if os.Getenv("TOUT") != "" {
		f, _ := os.Create(os.Getenv("TOUT"))
		w = f
		_ = bufio.NewWriter
	}
	if os.Getenv("TDISC") != "" {
		w = io.Discard
	}
	for range 3 {
		t0 := time.Now()
		err := Pack(context.Background(), w, []Source{{Path: os.Getenv("TPACK")}}, PackOptions{})
		fmt.Println(time.Since(t0), err)
	}
}
