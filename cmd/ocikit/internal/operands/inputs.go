package operands

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
	"ocikit/oci/image"
)

// An inputKind says what the bytes of an INPUT are if they are not descriptors.
type inputKind int

const (
	layerInput    inputKind = iota // a layer, plain or compressed
	DocumentInput                  // a manifest, index or config
)

// ReadInput returns the descriptors that an INPUT stands for: those that it holds as lines, or the
// one of its bytes. The bytes of a document are returned as well. An input that begins with "{" is
// the text itself, "-" is standard input.
func ReadInput(ctx context.Context, env *cli.Env, input string, kind inputKind) ([]oci.Descriptor, []byte, error) {
	if strings.HasPrefix(input, "{") {
		descs, doc, err := readJSONInput(strings.NewReader(input), kind)
		return descs, doc, err
	}

	open := env.Data
	if kind == DocumentInput {
		open = env.Input // it is small
	}

	f, err := open(input)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()

	// A layer, compressed or not, never begins like JSON.
	in := bufio.NewReaderSize(f, 64<<10)
	head, err := in.Peek(1)
	if err != nil && err != io.EOF {
		return nil, nil, err
	}

	var descs []oci.Descriptor
	var doc []byte
	switch {
	case string(head) == "{" || string(head) == "[" || len(head) == 0 || kind == DocumentInput:
		descs, doc, err = readJSONInput(in, kind)
	default:
		var d oci.Descriptor
		d, err = image.DescribeLayer(ctx, in, input != "-")
		descs = []oci.Descriptor{d}
	}

	if err != nil {
		err = fmt.Errorf("%s: %w", cli.InputName(input), err)
	}

	return descs, doc, err
}

// readJSONInput reads a document, or a stream of descriptors.
func readJSONInput(r io.Reader, kind inputKind) ([]oci.Descriptor, []byte, error) {
	data, err := oci.ReadDocument(r)
	switch {
	case err != nil:
		return nil, nil, err
	case len(data) > oci.MaxDocument:
		return nil, nil, fmt.Errorf("over %d bytes of JSON: %w", oci.MaxDocument, oci.ErrMalformed)
	case len(bytes.TrimSpace(data)) == 0:
		return nil, nil, errors.New("empty input")
	}

	// A stream of descriptors is told by its first line, which has a digest and a size. No document
	// has both.
	first, _, _ := bytes.Cut(data, []byte("\n"))
	if o, err := oci.ParseObject(first); kind == DocumentInput && (err != nil || o["digest"] == nil || o["size"] == nil) {
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
		err = cli.WithHint(err, "what begins like JSON is read as descriptors: `ocikit put LAYOUT FILE --media-type TYPE` stores a file and prints its own")
	}

	return descs, nil, err
}

// ReadStream returns the descriptors on standard input. A terminal has none: nobody would
// type them.
func ReadStream(env *cli.Env) ([]oci.Descriptor, error) {
	if env.InTTY {
		return nil, nil
	}
	descs, err := oci.ReadDescriptors(env.Stdin)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	return descs, nil
}

// LayerInputs returns the layers that --layer names, or those on standard input if none is
// named.
func LayerInputs(ctx context.Context, env *cli.Env, inputs []string) ([]oci.Descriptor, error) {
	if len(inputs) == 0 {
		return ReadStream(env)
	}
	var layers []oci.Descriptor
	for _, in := range inputs {
		descs, _, err := ReadInput(ctx, env, in, layerInput)
		if err != nil {
			return nil, err
		}
		layers = append(layers, descs...)
	}
	return layers, nil
}

// OneDescriptor reads an INPUT that must be one descriptor, or one document.
func OneDescriptor(ctx context.Context, env *cli.Env, input string) (oci.Descriptor, []byte, error) {
	descs, doc, err := ReadInput(ctx, env, input, DocumentInput)
	if err != nil {
		return oci.Descriptor{}, nil, err
	}
	if len(descs) != 1 {
		return oci.Descriptor{}, nil, fmt.Errorf("%s: %d descriptors, want one", cli.InputName(input), len(descs))
	}
	return descs[0], doc, nil
}
