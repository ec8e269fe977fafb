package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocikit/oci"
)

// An edit changes a config.
type edit func(*oci.Config) error

// configFlags are the flags that set the fields of an image config.
type configFlags struct {
	os, arch, variant, osVersion    *optional
	workdir, user, stopSignal       *optional
	entrypoint, cmd, healthcheck    *optional
	author, created                 *optional
	createdBy, comment              *string
	env, unsetEnv, label, unsetLabl *[]string
	expose, volume                  *[]string
	mergePatch                      *string
}

func bindConfigFlags(fs *flag.FlagSet) *configFlags {
	return &configFlags{
		os:          optionalFlag(fs, "os", "", "operating `system`, default linux"),
		arch:        optionalFlag(fs, "arch", "", "`CPU`, default amd64 on every machine; \"local\" is this one's"),
		variant:     optionalFlag(fs, "variant", "", "`variant` of the CPU, as v8"),
		osVersion:   optionalFlag(fs, "os-version", "", "`version` of the operating system"),
		env:         list(fs, "env", "e", "set a variable of the environment, `name=value` (repeatable)"),
		unsetEnv:    list(fs, "unset-env", "", "remove the variable `name` (repeatable)"),
		entrypoint:  wordsFlag(fs, "entrypoint", "program and fixed arguments: `words` as a JSON list, or one word; '' removes it"),
		cmd:         wordsFlag(fs, "cmd", "default arguments: `words` as a JSON list, or one word; '' removes it"),
		workdir:     optionalFlag(fs, "workdir", "w", "working `directory`; '' removes it"),
		user:        optionalFlag(fs, "user", "u", "`user[:group]` to run as; '' removes it"),
		label:       list(fs, "label", "l", "set the label `key=value` (repeatable)"),
		unsetLabl:   list(fs, "unset-label", "", "remove the label `key` (repeatable)"),
		expose:      list(fs, "expose", "", "`port[/proto]` that the program listens on (repeatable)"),
		volume:      list(fs, "volume", "", "`directory` that is a volume (repeatable)"),
		stopSignal:  optionalFlag(fs, "stop-signal", "", "`signal` that stops the program; '' removes it"),
		healthcheck: optionalFlag(fs, "healthcheck", "", "Docker's health check: a `JSON` object, a list of words, or NONE"),
		author:      optionalFlag(fs, "author", "", "`name` of who made the image; '' removes it"),
		created:     optionalFlag(fs, "created", "", "`time` of making (RFC 3339), default SOURCE_DATE_EPOCH or 1970"),
		createdBy:   fs.String("created-by", "", "`text` in the history of each new layer"),
		comment:     fs.String("comment", "", "`text` in the history of each new layer"),
		mergePatch:  fs.String("merge-patch", "", "apply the JSON merge patch in `file` last (RFC 7396)"),
	}
}

// edits returns what the flags ask for, in a fixed order.
func (c *configFlags) edits(ctx context.Context, env *Env) ([]edit, error) {
	var edits []edit
	add := func(e edit) { edits = append(edits, e) }
	for _, f := range []struct {
		o    *optional
		name string
		exec bool
	}{
		{c.os, "os", false}, {c.arch, "architecture", false}, {c.variant, "variant", false},
		{c.osVersion, "os.version", false}, {c.author, "author", false},
		{c.workdir, "WorkingDir", true}, {c.user, "User", true}, {c.stopSignal, "StopSignal", true},
	} {
		if !f.o.given {
			continue
		}
		value := f.o.value
		if f.name == "architecture" && value == "local" {
			p, _ := oci.ParsePlatform("local")
			value = p.Architecture
		}
		if value == "" && (f.name == "os" || f.name == "architecture") {
			return nil, usagef("flag --%s: it cannot be empty", map[string]string{"os": "os", "architecture": "arch"}[f.name])
		}
		add(func(cfg *oci.Config) error {
			if f.exec {
				cfg.SetExec(f.name, value)
			} else {
				cfg.Set(f.name, value)
			}
			return nil
		})
	}
	for _, f := range []struct {
		o    *optional
		name string
	}{{c.entrypoint, "Entrypoint"}, {c.cmd, "Cmd"}} {
		if !f.o.given {
			continue
		}
		words, err := parseWords(f.o.value)
		if err != nil {
			return nil, usagef("flag --%s: %v", strings.ToLower(f.name), err)
		}
		add(func(cfg *oci.Config) error { cfg.SetWords(f.name, words); return nil })
	}
	if err := c.mapEdits(add); err != nil {
		return nil, err
	}
	if *c.mergePatch != "" {
		in, err := env.input(*c.mergePatch)
		if err != nil {
			return nil, err
		}
		defer in.Close()
		patch, err := io.ReadAll(io.LimitReader(in, oci.MaxDocument+1))
		if err != nil {
			return nil, err
		}
		add(func(cfg *oci.Config) error { return cfg.MergePatch(patch) })
	}
	return edits, nil
}

// mapEdits adds the edits of environment, labels, ports, volumes and the health check.
func (c *configFlags) mapEdits(add func(edit)) error {
	for _, name := range *c.unsetEnv {
		add(func(cfg *oci.Config) error { return cfg.UnsetEnv(name) })
	}
	for _, pair := range *c.env {
		k, v, err := keyValue("env", pair)
		if err != nil {
			return err
		}
		add(func(cfg *oci.Config) error { return cfg.SetEnv(k, v) })
	}
	for _, key := range *c.unsetLabl {
		add(func(cfg *oci.Config) error { return cfg.UnsetMember("Labels", key) })
	}
	labels, err := keyValues("label", *c.label)
	if err != nil {
		return err
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		add(func(cfg *oci.Config) error { return cfg.SetMember("Labels", k, labels[k]) })
	}
	for _, p := range *c.expose {
		port, err := parsePort(p)
		if err != nil {
			return err
		}
		add(func(cfg *oci.Config) error { return cfg.SetMember("ExposedPorts", port, struct{}{}) })
	}
	for _, dir := range *c.volume {
		if dir == "" {
			return usagef("flag --volume: it cannot be empty")
		}
		add(func(cfg *oci.Config) error { return cfg.SetMember("Volumes", dir, struct{}{}) })
	}
	if c.healthcheck.given {
		check, err := parseHealthcheck(c.healthcheck.value)
		if err != nil {
			return err
		}
		add(func(cfg *oci.Config) error { cfg.SetExecJSON("Healthcheck", check); return nil })
	}
	return nil
}

// parseWords reads a JSON list of strings, or one word; "" gives nil.
func parseWords(s string) ([]string, error) {
	switch {
	case s == "":
		return nil, nil
	case !strings.HasPrefix(s, "["):
		return []string{s}, nil
	}
	words := []string{}
	if err := json.Unmarshal([]byte(s), &words); err != nil {
		return nil, fmt.Errorf("%q: want a JSON list of strings, as '[\"/bin/hello\",\"-v\"]'", s)
	}
	return words, nil
}

// parsePort checks port[/proto], where port may be a range.
func parsePort(s string) (string, error) {
	port, proto, _ := strings.Cut(s, "/")
	from, to, ranged := strings.Cut(port, "-")
	if !ranged {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil || a > b || !slices.Contains([]string{"", "tcp", "udp", "sctp"}, proto) {
		return "", usagef("flag --expose: %q: want PORT, PORT/tcp, PORT/udp or PORT/sctp", s)
	}
	if proto == "" {
		proto = "tcp"
	}
	return port + "/" + proto, nil
}

// parseHealthcheck reads a JSON object as Docker stores it, a list of words to run, or NONE.
func parseHealthcheck(s string) (json.RawMessage, error) {
	var words []string
	switch {
	case s == "NONE":
		words = []string{"NONE"}
	case strings.HasPrefix(s, "{"):
		o, err := oci.ParseObject([]byte(s))
		if err != nil {
			return nil, usagef("flag --healthcheck: %v", err)
		}
		return oci.Encode(o)
	default:
		w, err := parseWords(s)
		if err != nil || len(w) == 0 {
			return nil, usagef("flag --healthcheck: %q: want a JSON object, a JSON list of words, or NONE", s)
		}
		words = append([]string{"CMD"}, w...)
	}
	return oci.Encode(map[string][]string{"Test": words})
}

// createdTime returns the time of --created, else SOURCE_DATE_EPOCH, else the epoch, and
// whether it was asked for.
func (c *configFlags) createdTime(env *Env) (string, bool, error) {
	if c.created.given {
		t, err := oci.ParseTime(c.created.value)
		if err != nil {
			return "", false, usagef("flag --created: %v", err)
		}
		return t.UTC().Format(time.RFC3339Nano), true, nil
	}
	epoch := env.Getenv("SOURCE_DATE_EPOCH")
	sec, err := strconv.ParseInt(epoch, 10, 64)
	if epoch != "" && (err != nil || sec < 0 || sec > 253402300799) {
		return "", false, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
	}
	return time.Unix(sec, 0).UTC().Format(time.RFC3339), epoch != "", nil
}
