package serve

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"syscall"

	"ocikit/digest"
	"ocikit/oci/layout"
	"ocikit/oci/registry/serve/exchange"
)

// HTTPServer returns an http.Server for the registry with limits that stand against slow
// and greedy clients. Bodies have limits of their own, which move along with the bytes, so
// the server must not be given a ReadTimeout or a WriteTimeout.
func (s *Server) HTTPServer() *http.Server {
	return &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    maxHeader,

		DisableGeneralOptionsHandler: true,                       // it would answer past the log
		ErrorLog:                     log.New(io.Discard, "", 0), // what clients do wrong is not news
	}
}

// Serve answers requests on ln until ctx ends, then gives those in flight the grace of
// [Options], cuts what is left, and returns nil: uploads that were cut are kept to the last
// byte. Any other end is an error. It closes ln, not the Server.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	hs := s.HTTPServer()

	// Requests in flight outlive ctx, by the grace at most.
	hs.BaseContext = func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	hs.RegisterOnShutdown(s.feed.Close) // event streams would not end by themselves
	hs.RegisterOnShutdown(s.faults.Close)
	err := exchange.ServeUntil(ctx, hs, ln, s.opts.Grace, s.sessions.cutAll)
	s.sessions.wait() // an upload that was cut still saves what has come
	return err
}

// parseDigest returns a digest that this program can compute.
func parseDigest(s string) (digest.Digest, error) {
	d, err := digest.Parse(s)
	switch {
	case err != nil:
		return d, exchange.Fail(http.StatusBadRequest, exchange.CodeDigestInvalid, "%v", err)
	case !d.Verifiable():
		return d, exchange.Fail(http.StatusBadRequest, exchange.CodeDigestInvalid, "digest %s: want sha256 or sha512", exchange.Quote(s))
	}
	return d, nil
}

// answerTo turns an error of the layers below into an answer. Their text may hold names of
// files, so it goes to the log, not to the client, unless it is about what the client sent.
func answerTo(err error) *exchange.Failure {
	var f *exchange.Failure
	switch {
	case errors.As(err, &f):
		return f
	case errors.Is(err, errCut):
		return exchange.Fail(http.StatusBadRequest, exchange.CodeUploadInvalid, "%v", errCut)
	case errors.Is(err, digest.ErrMismatch):
		return exchange.Fail(http.StatusBadRequest, exchange.CodeDigestInvalid, "%v", err)
	case errors.Is(err, layout.ErrNotFound):
		return exchange.Fail(http.StatusNotFound, exchange.CodeBlobUnknown, "%v", err)
	case errors.Is(err, context.Canceled), errors.Is(err, os.ErrDeadlineExceeded):
		return exchange.Fail(http.StatusRequestTimeout, exchange.CodeUnknown, "the request was cut short")
	case isExhausted(err):
		f := exchange.Fail(http.StatusServiceUnavailable, exchange.CodeTooManyRequests, "too many files are open")
		f.Retry = 1
		return f
	case errors.Is(err, syscall.ENOSPC):
		return exchange.Fail(http.StatusInsufficientStorage, exchange.CodeUnknown, "the disk is full")
	}

	return exchange.Fail(http.StatusInternalServerError, exchange.CodeUnknown, "internal error, see the log of the registry")
}

// isExhausted reports whether err says that there is no handle left for another file.
func isExhausted(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
