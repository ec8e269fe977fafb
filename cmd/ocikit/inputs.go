package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"ocikit/oci"
	"ocikit/oci/image"
)

// An inputKind says what the bytes of an INPUT are if they are not descriptors.
type inputKind int

const (
	layerInput    inputKind = iota // a layer, plain or compressed
	documentInput                  // a manifest, index or config
)

// readInput returns the descriptors that an INPUT stands for: those it holds as lines, or
// the one of its bytes. For a document its bytes are returned as well. A literal begins
// with "{".
func readInput(ctx context.Context, env *Env, input string, kind inputKind) ([]oci.Descriptor, []byte, error) {
	if strings.HasPrefix(input, "{") {
		descs, doc, err := readJSONInput(strings.NewReader(input), kind)
		return descs, doc, err
	}
	open := env.data
	if kind == documentInput {
		open = env.input // it is small
	}
	f, err := open(input)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	head, err := in.Peek(1)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}
	var descs []oci.Descriptor
	var doc []byte
	switch {
	case string(head) == "{" || string(head) == "[" || len(head) == 0 || kind == documentInput:
		descs, doc, err = readJSONInput(in, kind)
	default:
		var d oci.Descriptor
		d, err = image.DescribeLayer(ctx, in)
		descs = []oci.Descriptor{d}
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", inputName(input), err)
	}
	return descs, doc, err
}

// readJSONInput reads a document, or a stream of descriptors.
func readJSONInput(r io.Reader, kind inputKind) ([]oci.Descriptor, []byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, oci.MaxDocument+1))
	switch {
	case err != nil:
		return nil, nil, err
	case len(data) > oci.MaxDocument:
		return nil, nil, fmt.Errorf("over %d bytes of JSON: %w", oci.MaxDocument, oci.ErrMalformed)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, nil, errors.New("empty input")
	}
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if o, err := oci.ParseObject(first); kind == documentInput && (err != nil || o["digest"] == nil || o["size"] == nil) {
		if _, err := oci.ParseObject(data); err != nil {
			return nil, nil, err
		}
		t := oci.SniffDocument(data)
		if t == "" {
			return nil, nil, fmt.Errorf("neither a manifest, an index nor a config: %w", oci.ErrMalformed)
		}
		return []oci.Descriptor{oci.Describe(t, data)}, data, nil
	}
	descs, err := oci.ReadDescriptors(bytes.NewReader(data))
	if kind == layerInput && err != nil {
		err = withHint(err, "what begins like JSON is read as descriptors: `ocikit put LAYOUT FILE --media-type TYPE` stores a file and prints its own")
	}
	return descs, nil, err
}

// readStream returns the descriptors on standard input. A terminal has none: nobody would
// type them.
func readStream(env *Env) ([]oci.Descriptor, error) {
	if env.InTTY {
		return nil, nil
	}
	descs, err := oci.ReadDescriptors(env.Stdin)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return descs, nil
}

// layerInputs returns the layers that --layer names, or those on standard input if none is
// named.
func layerInputs(ctx context.Context, env *Env, inputs []string) ([]oci.Descriptor, error) {
	if len(inputs) == 0 {
		return readStream(env)
	}
	var layers []oci.Descriptor
	for _, in := range inputs {
		descs, _, err := readInput(ctx, env, in, layerInput)
		if err != nil {
			return nil, err
		}
		layers = append(layers, descs...)
	}
	return layers, nil
}

// oneDescriptor reads an INPUT that must be one descriptor, or one document.
func oneDescriptor(ctx context.Context, env *Env, input string) (oci.Descriptor, []byte, error) {
	descs, doc, err := readInput(ctx, env, input, documentInput)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	if len(descs) != 1 {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %d descriptors, want one", inputName(input), len(descs))
	}
	return descs[0], doc, nil
}
