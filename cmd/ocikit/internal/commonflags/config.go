// Package commonflags has the flags that several commands share: of a registry, of an image's
// config, of packing files, of compression. Each is declared once, so that it means the same
// everywhere. A function BindX declares the flags of X, and returns where their values are once the
// line is parsed.
package commonflags

import (
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"ocikit/cmd/ocikit/internal/cli"
	"ocikit/oci"
)

// An Edit changes a config.
type Edit func(*oci.Config) error

// Config are the flags that set the fields of an image config. The exported ones are read by
// commands.
type Config struct {
	os, arch, variant, osVersion    *cli.Optional
	workdir, user, stopSignal       *cli.Optional
	entrypoint, cmd, shell          *cli.Optional
	healthcheck                     *cli.Optional
	Author, Created                 *cli.Optional
	CreatedBy, Comment              *string
	env, unsetEnv, label, unsetLabl *[]string
	envPrepend, envAppend           *[]string
	expand                          *bool
	expose, volume, onBuild         *[]string
	mergePatch                      *string
}

// BindConfig declares the flags that set the fields of an image config. [Config.Edits] reads them
// when the command runs.
func BindConfig(fs *flag.FlagSet) *Config {
	return &Config{
		os:          cli.OptionalFlag(fs, "os", "", "set the operating system to `SYSTEM`, by default linux"),
		arch:        cli.OptionalFlag(fs, "arch", "", "set the architecture to `CPU`, by default amd64 on every machine; \"local\" is this one's"),
		variant:     cli.OptionalFlag(fs, "variant", "", "set the variant of the CPU to `VARIANT`, as v8"),
		osVersion:   cli.OptionalFlag(fs, "os-version", "", "set the version of the operating system to `VERSION`"),
		env:         cli.List(fs, "env", "e", "set the environment variable `NAME=VALUE` (repeatable)"),
		envPrepend:  cli.List(fs, "env-prepend", "", "put a value and a colon in front of an environment variable, `NAME=VALUE` (repeatable)"),
		envAppend:   cli.List(fs, "env-append", "", "put a colon and a value behind an environment variable, `NAME=VALUE` (repeatable)"),
		expand:      fs.Bool("expand", false, "replace $NAME and ${NAME} as Dockerfiles do, by the environment as --env, then --env-prepend, then --env-append have set it; \\$ is a dollar sign"),
		unsetEnv:    cli.List(fs, "unset-env", "", "remove the environment variable `NAME` (repeatable)"),
		entrypoint:  cli.WordsFlag(fs, "entrypoint", "run the program and fixed arguments `WORDS`, a JSON list, or one word; '' removes it"),
		cmd:         cli.WordsFlag(fs, "cmd", "set the default arguments to `WORDS`, a JSON list, or one word; '' removes it"),
		shell:       cli.WordsFlag(fs, "shell", "have Docker run commands with the shell `WORDS`, a JSON list; '' removes it"),
		onBuild:     cli.List(fs, "onbuild", "", "run the Dockerfile instruction `INSTRUCTION` in builds on this image (repeatable; '' removes all)"),
		workdir:     cli.OptionalFlag(fs, "workdir", "w", "start in the working directory `DIR`; '' removes it"),
		user:        cli.OptionalFlag(fs, "user", "u", "run as `USER[:GROUP]`; '' removes it"),
		label:       cli.List(fs, "label", "l", "set the label `KEY=VALUE` (repeatable)"),
		unsetLabl:   cli.List(fs, "unset-label", "", "remove the label `KEY` (repeatable)"),
		expose:      cli.List(fs, "expose", "", "say that the program listens on `PORT[/PROTO]` (repeatable)"),
		volume:      cli.List(fs, "volume", "", "make `DIR` a volume (repeatable)"),
		stopSignal:  cli.OptionalFlag(fs, "stop-signal", "", "stop the program with `SIGNAL`; '' removes it"),
		healthcheck: cli.OptionalFlag(fs, "healthcheck", "", "set Docker's health check to `JSON`: an object; a list, as [\"CMD\",\"/bin/ok\"] or [\"CMD-SHELL\",\"ok || exit 1\"]; or NONE; '' removes it"),
		Author:      cli.OptionalFlag(fs, "author", "", "say that `NAME` made the image; '' removes it"),
		Created:     cli.OptionalFlag(fs, "created", "", "set the creation time to `TIME` (RFC 3339), by default SOURCE_DATE_EPOCH or 1970"),
		CreatedBy:   fs.String("created-by", "", "write `TEXT` into the history of each new layer"),
		Comment:     fs.String("comment", "", "write `TEXT` into the history of each new layer"),
		mergePatch:  fs.String("merge-patch", "", "apply the JSON merge patch in `FILE` last (RFC 7396)"),
	}
}

// Edits returns what the flags ask for, in the order in which it must be done: the environment
// first, a merge patch last. A value that cannot be one is a usage error, and nothing of the image
// has been read then.
func (c *Config) Edits(ctx context.Context, env *cli.Env) ([]Edit, error) {
	var edits []Edit
	add := func(e Edit) { edits = append(edits, e) }
	// The environment comes first, since what follows may name a variable.
	for _, step := range []func(add func(Edit)) error{c.envEdits, c.textEdits, c.wordEdits} {
		if err := step(add); err != nil {
			return nil, err
		}
	}
	c.warn(env)
	for _, step := range []func(add func(Edit)) error{c.labelEdits, c.portEdits, c.volumeEdits, c.dockerEdits} {
		if err := step(add); err != nil {
			return nil, err
		}
	}

	// The patch comes last, so that it can change what the other flags have set.
	if *c.mergePatch != "" {
		patch, err := env.Document(*c.mergePatch)
		if err != nil {
			return nil, err
		}
		add(func(cfg *oci.Config) error { return cfg.MergePatch(patch) })
	}

	return edits, nil
}

// textEdits adds the edits of texts of the config, and with exec of those of its member "config", where
// variables may stand.
func (c *Config) textEdits(add func(Edit)) error {
	for _, f := range []struct {
		o    *cli.Optional
		name string
		exec bool
	}{
		{c.os, "os", false}, {c.arch, "architecture", false}, {c.variant, "variant", false},
		{c.osVersion, "os.version", false}, {c.Author, "author", false},
		{c.workdir, "WorkingDir", true}, {c.user, "User", true}, {c.stopSignal, "StopSignal", true},
	} {
		if !f.o.Given {
			continue
		}

		value := f.o.Value
		if f.name == "architecture" && value == "local" {
			p, _ := oci.ParsePlatform("local")
			value = p.Architecture
		}

		// The image-spec requires both (config.md, "Properties").
		if value == "" && (f.name == "os" || f.name == "architecture") {
			return cli.Usagef("flag --%s: it cannot be empty", map[string]string{"os": "os", "architecture": "arch"}[f.name])
		}

		words := oci.Platform{OS: onlyFor(f.name == "os", value), Architecture: onlyFor(f.name == "architecture", value), Variant: onlyFor(f.name == "variant", value)}
		if err := words.CheckWords(); err != nil {
			return cli.Usagef("flag --%s: %v", map[string]string{"os": "os", "architecture": "arch", "variant": "variant"}[f.name], err)
		}

		if !f.exec {
			add(func(cfg *oci.Config) error { cfg.Set(f.name, value); return nil })
			continue
		}

		set, err := c.expanded(value, func(cfg *oci.Config, value string) error { cfg.SetExec(f.name, value); return nil })
		if err != nil {
			return err
		}

		add(set)
	}

	return nil
}

// wordEdits adds the edits of the lists of words.
func (c *Config) wordEdits(add func(Edit)) error {
	for _, f := range []struct {
		o    *cli.Optional
		name string
	}{{c.entrypoint, "Entrypoint"}, {c.cmd, "Cmd"}, {c.shell, "Shell"}} {
		if !f.o.Given {
			continue
		}
		words, err := parseWords(f.o.Value)
		if err != nil {
			return cli.Usagef("flag --%s: %v", strings.ToLower(f.name), err)
		}
		add(func(cfg *oci.Config) error { cfg.SetWords(f.name, words); return nil })
	}
	return nil
}

// envEdits adds the edits of the environment.
func (c *Config) envEdits(add func(Edit)) error {
	// Removal comes first, so that one command can remove a variable and set it anew.
	for _, name := range *c.unsetEnv {
		add(func(cfg *oci.Config) error { return cfg.UnsetEnv(name) })
	}

	for _, f := range []struct {
		name  string
		pairs []string
		set   func(cfg *oci.Config, name, value string) error
	}{
		{"env", *c.env, (*oci.Config).SetEnv},
		{"env-prepend", *c.envPrepend, func(cfg *oci.Config, name, value string) error { return joinEnv(cfg, name, value, "") }},
		{"env-append", *c.envAppend, func(cfg *oci.Config, name, value string) error { return joinEnv(cfg, name, "", value) }},
	} {
		for _, pair := range f.pairs {
			k, v, err := cli.KeyValue(f.name, pair)
			if err != nil {
				return err
			}
			set, err := c.expanded(v, func(cfg *oci.Config, value string) error { return f.set(cfg, k, value) })
			if err != nil {
				return err
			}
			add(set)
		}
	}

	return nil
}

// expanded returns the edit that sets a value, variables put in if that is asked for.
func (c *Config) expanded(value string, set func(*oci.Config, string) error) (Edit, error) {
	if !*c.expand {
		return func(cfg *oci.Config) error { return set(cfg, value) }, nil
	}

	// A text that can never be expanded is told of before anything is read.
	if _, err := expandEnv(value, nil); err != nil {
		return nil, cli.Usagef("flag --expand: %v", err)
	}

	return func(cfg *oci.Config) error {
		v, err := cfg.View()
		if err != nil {
			return err
		}
		text, err := expandEnv(value, v.Config.Env)
		if err != nil {
			return err
		}
		return set(cfg, text)
	}, nil
}

// labelEdits adds the edits of the labels.
func (c *Config) labelEdits(add func(Edit)) error {
	for _, key := range *c.unsetLabl {
		add(func(cfg *oci.Config) error { return cfg.UnsetMember("Labels", key) })
	}

	labels, err := cli.KeyValues("label", *c.label)
	if err != nil {
		return err
	}

	// In the order of the keys, since a map has none and errors must not change from run to run.
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		set, err := c.expanded(labels[k], func(cfg *oci.Config, value string) error { return cfg.SetMember("Labels", k, value) })
		if err != nil {
			return err
		}
		add(set)
	}

	return nil
}

// portEdits adds the edits of the ports.
func (c *Config) portEdits(add func(Edit)) error {
	// With --expand a port may be a variable, so it is checked when that is put in.
	for _, p := range *c.expose {
		if _, err := parsePort(p); err != nil && !*c.expand {
			return err
		}
		set, err := c.expanded(p, func(cfg *oci.Config, value string) error {
			port, err := parsePort(value)
			if err != nil {
				return err
			}
			return cfg.SetMember("ExposedPorts", port, struct{}{})
		})
		if err != nil {
			return err
		}
		add(set)
	}

	return nil
}

// volumeEdits adds the edits of the volumes.
func (c *Config) volumeEdits(add func(Edit)) error {
	// With --expand a name may turn out empty later.
	for _, dir := range *c.volume {
		if dir == "" {
			return cli.Usagef("flag --volume: it cannot be empty")
		}
		set, err := c.expanded(dir, func(cfg *oci.Config, value string) error {
			if value == "" {
				return fmt.Errorf("volume %q is empty once its variables are put in", dir)
			}
			return cfg.SetMember("Volumes", value, struct{}{})
		})
		if err != nil {
			return err
		}
		add(set)
	}

	return nil
}

// dockerEdits adds the edits of what Docker alone reads: instructions for builds, the health check.
func (c *Config) dockerEdits(add func(Edit)) error {
	// An empty instruction stands for none, and alone it removes all.
	if len(*c.onBuild) > 0 {
		instructions := slices.DeleteFunc(slices.Clone(*c.onBuild), func(s string) bool { return s == "" })
		if len(instructions) == 0 {
			instructions = nil // an empty list would be a list
		}
		add(func(cfg *oci.Config) error { cfg.SetWords("OnBuild", instructions); return nil })
	}

	if c.healthcheck.Given {
		check, err := parseHealthcheck(c.healthcheck.Value)
		if err != nil {
			return err
		}
		add(func(cfg *oci.Config) error { cfg.SetExecJSON("Healthcheck", check); return nil })
	}

	return nil
}

// warn says what a shell or a Dockerfile would have made of values that are stored as they are.
func (c *Config) warn(env *cli.Env) {
	for _, pair := range *c.env {
		name, value, _ := strings.Cut(pair, "=")
		if !*c.expand && (strings.Contains(value, "$"+name) || strings.Contains(value, "${"+name)) {
			env.Notice("ocikit: --env %s is stored as it is written, with the dollar sign: --expand puts in what the image has, --env-prepend and --env-append add to it", name)
		}
	}
	for _, f := range []struct {
		name  string
		words *cli.Optional
	}{{"entrypoint", c.entrypoint}, {"cmd", c.cmd}} {
		if !strings.HasPrefix(f.words.Value, "[") && strings.Contains(f.words.Value, " ") {
			env.Notice("ocikit: --%s is one word, with a blank in it: several are a JSON list, as '[\"echo\",\"hello\"]'", f.name)
		}
	}
}

// joinEnv puts values around that of a list like PATH, with colons between them.
func joinEnv(cfg *oci.Config, name, before, behind string) error {
	v, err := cfg.View()
	if err != nil {
		return err
	}
	old := lookupEnv(v.Config.Env, name)
	parts := slices.DeleteFunc([]string{before, old, behind}, func(s string) bool { return s == "" })
	return cfg.SetEnv(name, strings.Join(parts, ":"))
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
		return "", cli.Usagef("flag --expose: %q: want PORT, PORT/tcp, PORT/udp or PORT/sctp", s)
	}
	return port + "/" + cmp.Or(proto, "tcp"), nil
}

// parseHealthcheck reads a JSON object as Docker stores it, a list, or NONE. A list that begins with
// CMD, CMD-SHELL or NONE is Docker's "Test" as it is; any other is the words to run. Of "" there is
// none.
func parseHealthcheck(s string) (json.RawMessage, error) {
	var words []string
	switch {
	case s == "":
		return nil, nil
	case s == "NONE":
		words = []string{"NONE"}
	case strings.HasPrefix(s, "{"):
		o, err := oci.ParseObject([]byte(s))
		if err != nil {
			return nil, cli.Usagef("flag --healthcheck: %v", err)
		}
		return oci.Encode(o)
	case !strings.HasPrefix(s, "[") && strings.ContainsAny(s, " \t"): // no program has such a name
		return nil, cli.Usagef("flag --healthcheck: %q: want [\"CMD-SHELL\",COMMAND] for a command of a shell, [\"CMD\",WORD...] for words", s)
	default:
		w, err := parseWords(s)
		if err != nil || len(w) == 0 {
			return nil, cli.Usagef("flag --healthcheck: %q: want a JSON object, a JSON list of words, or NONE", s)
		}
		switch {
		case w[0] == "CMD-SHELL" && len(w) != 2, w[0] == "NONE" && len(w) != 1, w[0] == "CMD" && len(w) < 2:
			return nil, cli.Usagef("flag --healthcheck: %q: want [\"CMD\",WORD...], [\"CMD-SHELL\",COMMAND] or [\"NONE\"]", s)
		case w[0] == "CMD", w[0] == "CMD-SHELL", w[0] == "NONE":
			words = w
		default:
			words = append([]string{"CMD"}, w...)
		}
	}

	return oci.Encode(map[string][]string{"Test": words})
}

// CreatedTime returns the time of --created, else that of SOURCE_DATE_EPOCH, else 1970, as RFC 3339
// writes it in UTC, and whether it was asked for.
func (c *Config) CreatedTime(env *cli.Env) (string, bool, error) {
	if c.Created.Given {
		t, err := oci.ParseTime(c.Created.Value)
		if err != nil {
			return "", false, cli.Usagef("flag --created: %v", err)
		}
		return t.UTC().Format(time.RFC3339Nano), true, nil
	}
	epoch := env.Getenv("SOURCE_DATE_EPOCH")

	// RFC 3339 has years of four digits: 253402300799 is the last second of 9999.
	sec, err := strconv.ParseInt(epoch, 10, 64)
	if epoch != "" && (err != nil || sec < 0 || sec > 253402300799) {
		return "", false, fmt.Errorf("SOURCE_DATE_EPOCH %q: want seconds since 1970", epoch)
	}
	return time.Unix(sec, 0).UTC().Format(time.RFC3339), epoch != "", nil
}

// onlyFor returns the value if it is meant, and else nothing.
func onlyFor(meant bool, value string) string {
	if meant {
		return value
	}
	return ""
}
