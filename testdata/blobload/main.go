// Blobload is a client that costs next to nothing, for measuring registries: what a client
// takes of the processors it takes away from the registry beside it. It pushes or pulls
// blobs, all at once, each on a connection of its own, and ends when the last one is there:
//
//	blobload push ADDRESS REPOSITORY FILE...
//	blobload pull ADDRESS REPOSITORY FILE...
//
// The name of a FILE is the SHA-256 of its bytes in hexadecimal digits; a pull looks at
// nothing but the name. A push is a POST and a PUT of the whole blob, which the system sends
// straight from the file. A pull is a GET whose bytes are counted and dropped, by a system
// that can do so without copying them to the program. Nothing is hashed.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
)

func main() {
	verbs := map[string]func(address, repo, file string) error{"push": push, "pull": pull}
	if len(os.Args) < 5 || verbs[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: blobload push|pull ADDRESS REPOSITORY FILE...")
		os.Exit(2)
	}
	address, repo, files := os.Args[2], os.Args[3], os.Args[4:]
	errs := make([]error, len(files))
	var wg sync.WaitGroup
	for i, file := range files {
		wg.Go(func() { errs[i] = verbs[os.Args[1]](address, repo, file) })
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		fmt.Fprintln(os.Stderr, "blobload:", err)
		os.Exit(1)
	}
}

func push(address, repo, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	uploads := &url.URL{Scheme: "http", Host: address, Path: "/v2/" + repo + "/blobs/uploads/"}
	res, err := http.Post(uploads.String(), "", nil)
	if err != nil {
		return err
	}
	res.Body.Close()
	session, err := uploads.Parse(res.Header.Get("Location"))
	if err != nil || res.StatusCode != http.StatusAccepted {
		return fmt.Errorf("POST: %s, Location %q", res.Status, res.Header.Get("Location"))
	}
	q := session.Query()
	q.Set("digest", "sha256:"+filepath.Base(file))
	session.RawQuery = q.Encode()
	req, err := http.NewRequest(http.MethodPut, session.String(), f)
	if err != nil {
		return err
	}
	req.ContentLength = info.Size()
	req.Header.Set("Content-Type", "application/octet-stream")
	if res, err = http.DefaultTransport.RoundTrip(req); err != nil {
		return err
	}
	res.Body.Close()
	if res.StatusCode != http.StatusCreated {
		return fmt.Errorf("PUT: %s", res.Status)
	}
	return nil
}

func pull(address, repo, file string) error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /v2/%s/blobs/sha256:%s HTTP/1.1\r\nHost: %s\r\n\r\n", repo, filepath.Base(file), address)
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK || res.ContentLength < 0 {
		return fmt.Errorf("GET: %s, Content-Length %d", res.Status, res.ContentLength)
	}
	return drop(conn.(*net.TCPConn), res.ContentLength-int64(br.Buffered()))
}
