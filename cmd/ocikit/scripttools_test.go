package main

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// scriptTools are the small commands that scripts have besides ocikit. They are written in
// Go so that scripts run where there is no shell.
func scriptTools() map[string]func(args []string, in io.Reader, out io.Writer) error {
	return map[string]func(args []string, in io.Reader, out io.Writer) error{
		"cat": func(args []string, in io.Reader, out io.Writer) error {
			for _, name := range args {
				data, err := os.ReadFile(name)
				if err != nil {
					return err
				}
				out.Write(data)
			}
			if len(args) > 0 {
				return nil
			}
			_, err := io.Copy(out, in)
			return err
		},
		"echo": func(args []string, in io.Reader, out io.Writer) error {
			_, err := fmt.Fprintln(out, strings.Join(args, " "))
			return err
		},
		"printf": func(args []string, in io.Reader, out io.Writer) error {
			text, err := strconv.Unquote(`"` + args[0] + `"`)
			fmt.Fprint(out, text)
			return err
		},
		"head": func(args []string, in io.Reader, out io.Writer) error { // head -c N, head -n 1
			if args[0] == "-n" {
				data, err := io.ReadAll(in)
				line, _, _ := bytes.Cut(data, []byte("\n"))
				fmt.Fprintf(out, "%s\n", line)
				return err
			}
			return piece(args, in, out, func(data []byte, n int) []byte { return data[:min(n, len(data))] })
		},
		"tail": func(args []string, in io.Reader, out io.Writer) error { // tail -c +N
			return piece(args, in, out, func(data []byte, n int) []byte { return data[min(n-1, len(data)):] })
		},
		"gunzip": func(args []string, in io.Reader, out io.Writer) error {
			z, err := gzip.NewReader(in)
			if err != nil {
				return err
			}
			_, err = io.Copy(out, z)
			return err
		},
		"flip": func(args []string, in io.Reader, out io.Writer) error { // flip FILE AT: flips a bit
			data, err := os.ReadFile(args[0])
			if err != nil {
				return err
			}
			at, _ := strconv.Atoi(args[1])
			data[at] ^= 1
			return os.WriteFile(args[0], data, 0o644)
		},
		"fill": func(args []string, in io.Reader, out io.Writer) error { // fill FILE SIZE: fixed noise
			n, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			data := make([]byte, n)
			x := uint32(1)
			for i := range data {
				x ^= x << 13
				x ^= x >> 17
				x ^= x << 5
				data[i] = byte(x >> 8)
			}
			return os.WriteFile(args[0], data, 0o644)
		},
		"blob": func(args []string, in io.Reader, out io.Writer) error { // blob LAYOUT DIGEST: its path
			alg, enc, _ := strings.Cut(args[1], ":")
			_, err := fmt.Fprintln(out, strings.Join([]string{args[0], "blobs", alg, enc}, "/"))
			return err
		},
		"tagof": func(args []string, in io.Reader, out io.Writer) error { // tagof DIGEST: its fallback tag
			_, err := fmt.Fprintln(out, strings.Replace(args[0], ":", "-", 1))
			return err
		},
		"field": func(args []string, in io.Reader, out io.Writer) error { // field NAME: of JSON lines
			data, err := io.ReadAll(in)
			for line := range bytes.Lines(data) {
				_, rest, ok := bytes.Cut(line, []byte(`"`+args[0]+`":"`))
				value, _, _ := bytes.Cut(rest, []byte(`"`))
				if ok {
					fmt.Fprintf(out, "%s\n", value)
				}
			}
			return err
		},
		"sort": func(args []string, in io.Reader, out io.Writer) error {
			data, err := io.ReadAll(in)
			lines := strings.SplitAfter(string(data), "\n")
			slices.Sort(lines)
			fmt.Fprint(out, strings.Join(lines, ""))
			return err
		},
		"cp":      func(args []string, in io.Reader, out io.Writer) error { return copyTree(args[0], args[1]) },
		"mv":      func(args []string, in io.Reader, out io.Writer) error { return os.Rename(args[0], args[1]) },
		"mkdir":   func(args []string, in io.Reader, out io.Writer) error { return each(args, mkdirAll) },
		"rm":      func(args []string, in io.Reader, out io.Writer) error { return each(args, os.RemoveAll) },
		"symlink": func(args []string, in io.Reader, out io.Writer) error { return os.Symlink(args[0], args[1]) },
		"link":    func(args []string, in io.Reader, out io.Writer) error { return os.Link(args[0], args[1]) },
		"chmod": func(args []string, in io.Reader, out io.Writer) error {
			mode, err := strconv.ParseUint(args[0], 8, 32)
			return errors.Join(err, os.Chmod(args[1], os.FileMode(mode)))
		},
		"touch": func(args []string, in io.Reader, out io.Writer) error { // touch FILE SECONDS
			sec, err := strconv.ParseInt(args[1], 10, 64)
			return errors.Join(err, os.Chtimes(args[0], time.Unix(sec, 0), time.Unix(sec, 0)))
		},
	}
}

func piece(args []string, in io.Reader, out io.Writer, cut func([]byte, int) []byte) error {
	n, err := strconv.Atoi(strings.TrimPrefix(args[1], "+"))
	if err != nil {
		return err
	}
	var data []byte
	if len(args) > 2 {
		data, err = os.ReadFile(args[2])
	} else {
		data, err = io.ReadAll(in)
	}
	out.Write(cut(data, n))
	return err
}

func mkdirAll(dir string) error { return os.MkdirAll(dir, 0o755) }

func copyTree(from, to string) error {
	if info, err := os.Stat(from); err != nil || info.IsDir() {
		return errors.Join(err, os.CopyFS(to, os.DirFS(from)))
	}
	data, err := os.ReadFile(from)
	return errors.Join(err, os.WriteFile(to, data, 0o644))
}

func each(args []string, do func(string) error) error {
	var errs []error
	for _, a := range args {
		errs = append(errs, do(a))
	}
	return errors.Join(errs...)
}
