package oci

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"ocikit/digest"
)

// A Config is the config document of an image (config.md of the image-spec), open for editing.
// Members that an edit does not name stay as they were, whether this program knows them or not.
// Values are read with [Config.View]. Not safe for concurrent use.
type Config struct {
	doc  Object
	exec Object // the member "config"
}

// View is what a config says, as far as this program reads it.
type View struct {
	Created      string    `json:"created,omitempty"`
	Author       string    `json:"author,omitempty"`
	Architecture string    `json:"architecture"`
	OS           string    `json:"os"`
	OSVersion    string    `json:"os.version,omitempty"`
	OSFeatures   []string  `json:"os.features,omitempty"`
	Variant      string    `json:"variant,omitempty"`
	Config       Execution `json:"config,omitzero"`
	RootFS       RootFS    `json:"rootfs"`
	History      []History `json:"history,omitempty"`
}

// Execution says how a container of the image is started (config.md, "config").
type Execution struct {
	User         string              `json:"User,omitempty"`
	ExposedPorts map[string]struct{} `json:"ExposedPorts,omitempty"`
	Env          []string            `json:"Env,omitempty"`
	Entrypoint   []string            `json:"Entrypoint,omitempty"`
	Cmd          []string            `json:"Cmd,omitempty"`
	Volumes      map[string]struct{} `json:"Volumes,omitempty"`
	WorkingDir   string              `json:"WorkingDir,omitempty"`
	Labels       map[string]string   `json:"Labels,omitempty"`
	StopSignal   string              `json:"StopSignal,omitempty"`
}

// RootFS lists the diff IDs of the layers, the lowest first.
type RootFS struct {
	DiffIDs []digest.Digest `json:"diff_ids"`
	Type    string          `json:"type"`
}

// History says how one layer, or a step that made none, came to be.
type History struct {
	Author     string `json:"author,omitempty"`
	Comment    string `json:"comment,omitempty"`
	Created    string `json:"created,omitempty"`
	CreatedBy  string `json:"created_by,omitempty"`
	EmptyLayer bool   `json:"empty_layer,omitempty"`
}

// NewConfig returns the config of an image for p without layers.
func NewConfig(p Platform) *Config {
	c := &Config{doc: Object{}, exec: Object{}}
	c.must("rootfs", RootFS{Type: "layers", DiffIDs: []digest.Digest{}})
	c.setPlatform(p)
	return c
}

// ParseConfig reads a config document under the rules of [Decode], and checks the types of
// the members that [View] names.
func ParseConfig(data []byte) (*Config, error) {
	doc, err := ParseObject(data)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}

	c := &Config{doc: doc}
	if _, err := c.View(); err != nil {
		return nil, fmt.Errorf("config: %w: %w", ErrMalformed, err)
	}

	if err := doc.Get("config", &c.exec); err != nil {
		return nil, fmt.Errorf("config: %w: %w", ErrMalformed, err)
	}

	if c.exec == nil {
		c.exec = Object{}
	}

	return c, nil
}

// View decodes the config as it stands.
func (c *Config) View() (View, error) {
	var v View
	data, err := c.Encode()
	if err != nil {
		return v, err
	}

	if err := unmarshal(data, &v); err != nil {
		return v, err
	}

	// ParseConfig takes a view before it takes "config" apart. Then the names in that are checked
	// too: one in another case is an error, see unmarshal.
	if raw := c.doc["config"]; c.exec == nil && len(raw) > 0 && raw[0] == '{' {
		if err := unmarshal(raw, &Execution{}); err != nil {
			return v, fmt.Errorf("config: %w", err)
		}
	}

	if v.RootFS.Type != "layers" {
		return v, fmt.Errorf("rootfs: type %q, want \"layers\"", v.RootFS.Type)
	}

	return v, nil
}

// Platform returns the platform that v says the image is for.
func (v View) Platform() Platform {
	return Platform{OS: v.OS, Architecture: v.Architecture, Variant: v.Variant, OSVersion: v.OSVersion, OSFeatures: v.OSFeatures}
}

// Encode returns the document in the form that the function [Encode] gives.
func (c *Config) Encode() ([]byte, error) {
	doc := c.doc.clone()
	if len(c.exec) > 0 {
		raw, err := Encode(c.exec)
		if err != nil {
			return nil, err
		}
		doc["config"] = raw
	} else if c.exec != nil && doc["config"] != nil && string(doc["config"]) != "null" {
		// An object that was emptied stays an object; a null, or nothing, stays what it was.
		doc["config"] = json.RawMessage("{}")
	}
	return Encode(doc)
}

// setPlatform sets os and architecture. It sets variant and os.version only if p has them:
// otherwise those of the config stay.
func (c *Config) setPlatform(p Platform) {
	c.must("os", p.OS)
	c.must("architecture", p.Architecture)
	if p.Variant != "" {
		c.must("variant", p.Variant)
	}
	if p.OSVersion != "" {
		c.must("os.version", p.OSVersion)
	}
}

// Set sets a member of the document, "" removes it.
func (c *Config) Set(name, value string) { setText(c.doc, name, value) }

// SetExec sets a text member of "config", as WorkingDir; "" removes it.
func (c *Config) SetExec(name, value string) { setText(c.exec, name, value) }

// SetExecJSON sets a member of "config" to any JSON value, which must be valid and is not copied. A nil
// value removes the member.
func (c *Config) SetExecJSON(name string, value json.RawMessage) {
	if value == nil {
		delete(c.exec, name)
		return
	}
	c.exec[name] = value
}

// SetWords sets Entrypoint or Cmd. A nil list removes the member, an empty one is kept.
func (c *Config) SetWords(name string, words []string) {
	if words == nil {
		c.SetExecJSON(name, nil)
		return
	}
	c.SetExecJSON(name, mustEncode(words))
}

// SetEnv sets one variable of the environment, in place if it is there. If it is there several times,
// which runtimes read as the last of them, one is left.
func (c *Config) SetEnv(name, value string) error {
	env, err := c.env()
	if err != nil {
		return err
	}

	is, pair := isVariable(name), name+"="+value
	if i := slices.IndexFunc(env, is); i >= 0 {
		env[i] = pair
		env = append(env[:i+1], slices.DeleteFunc(env[i+1:], is)...)
	} else {
		env = append(env, pair)
	}

	c.exec["Env"] = mustEncode(env)
	return nil
}

// UnsetEnv removes a variable of the environment, as often as it is there; [ErrAbsent] if there is none.
func (c *Config) UnsetEnv(name string) error {
	env, err := c.env()
	if err != nil {
		return err
	}

	n := len(env)
	if env = slices.DeleteFunc(env, isVariable(name)); len(env) == n {
		return Absent("no variable %q in the environment", name)
	}

	c.exec["Env"] = mustEncode(env)
	return nil
}

// SetMember sets one member of a map in "config", as Labels, ExposedPorts or Volumes.
func (c *Config) SetMember(name, key string, value any) error {
	m, err := c.members(name)
	if err != nil {
		return err
	}
	m[key] = mustEncode(value)
	c.exec[name] = mustEncode(m)
	return nil
}

// UnsetMember removes one member of a map in "config"; [ErrAbsent] if there is none.
func (c *Config) UnsetMember(name, key string) error {
	m, err := c.members(name)
	if err != nil {
		return err
	}
	if _, ok := m[key]; !ok {
		return Absent("no %q in %s", key, name)
	}
	delete(m, key)
	c.exec[name] = mustEncode(m)
	return nil
}

// AddLayer appends a layer's diff ID and the history of how it was made.
func (c *Config) AddLayer(diffID digest.Digest, h History) error {
	var rootfs Object
	if err := json.Unmarshal(c.doc["rootfs"], &rootfs); err != nil {
		return err
	}

	var ids []json.RawMessage
	if err := rootfs.Get("diff_ids", &ids); err != nil {
		return err
	}

	// The history comes first: the new entry is that of the new layer.
	if err := c.AddHistory(h); err != nil {
		return err
	}

	rootfs["diff_ids"] = mustEncode(append(ids, mustEncode(diffID)))
	c.doc["rootfs"] = mustEncode(rootfs)
	return nil
}

// AddHistory appends one entry of history. Layers that the history does not tell of get empty entries
// before it, so that the new entry does not seem to be about one of them.
func (c *Config) AddHistory(h History) error {
	entries, err := c.HistoryEntries()
	if err != nil {
		return err
	}

	ids, err := c.DiffIDs()
	if err != nil {
		return err
	}

	for n := MadeLayers(entries); n < len(ids); n++ {
		entries = append(entries, NewHistoryEntry(History{}))
	}

	c.SetHistoryEntries(append(entries, NewHistoryEntry(h)))
	return nil
}

// MergePatch applies a JSON merge patch (RFC 7396) to the whole document. On error c is as before.
// A patch that is not an object gives [ErrMalformed], and so does a result that is not a config.
func (c *Config) MergePatch(patch []byte) error {
	if err := checkStrict(patch, '{'); err != nil {
		return fmt.Errorf("merge patch: %w: %w", ErrMalformed, err)
	}

	data, err := c.Encode()
	if err != nil {
		return err
	}

	merged, err := mergePatch(data, patch)
	if err != nil {
		return fmt.Errorf("merge patch: %w", err)
	}

	return c.become(merged, "merge patch")
}

// become makes a config what a patch has made of it.
func (c *Config) become(data []byte, patch string) error {
	patched, err := ParseConfig(data)
	if err != nil {
		return fmt.Errorf("after the %s: %w", patch, err)
	}
	*c = *patched
	return nil
}

// JSONPatch applies a JSON patch to the whole document. On error c is as before. Errors are those
// of [JSONPatch.Apply]; a result that is not a config gives [ErrMalformed].
func (c *Config) JSONPatch(patch JSONPatch) error {
	data, err := c.Encode()
	if err != nil {
		return err
	}

	if data, err = patch.Apply(data); err != nil {
		return err
	}

	return c.become(data, "JSON patch")
}

func (c *Config) env() (env []string, err error) {
	err = c.exec.Get("Env", &env)
	return env, err
}

// isVariable tells the entries of the environment that are about a variable.
func isVariable(name string) func(entry string) bool {
	return func(entry string) bool { return strings.HasPrefix(entry, name+"=") || entry == name }
}

func (c *Config) members(name string) (m Object, err error) {
	if err = c.exec.Get(name, &m); m == nil {
		m = Object{}
	}
	return m, err
}

func (c *Config) must(name string, value any) { c.doc[name] = mustEncode(value) }

func setText(o Object, name, value string) {
	if value == "" {
		delete(o, name)
		return
	}
	o[name] = mustEncode(value)
}

// mustEncode encodes values that this package made; they cannot fail to encode.
func mustEncode(v any) json.RawMessage {
	data, err := Encode(v)
	if err != nil {
		panic(err)
	}
	return data
}

// ParseTime checks a time as configs hold it (RFC 3339) and returns it.
func ParseTime(s string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil {
		return t, fmt.Errorf("time %q: want RFC 3339, as 2006-01-02T15:04:05Z", s)
	}
	return t, nil
}

// mergePatch is the algorithm of RFC 7396, section 2.
func mergePatch(target, patch json.RawMessage) (json.RawMessage, error) {
	var p Object
	if err := json.Unmarshal(patch, &p); err != nil || p == nil {
		return patch, nil // not an object: it takes the target's place
	}

	// A value that is not an object is replaced by one: the patch then adds to an empty object.
	var t Object
	if err := json.Unmarshal(target, &t); err != nil || t == nil {
		t = Object{}
	}

	for name, value := range p {
		if string(value) == "null" {
			delete(t, name)
			continue
		}
		merged, err := mergePatch(t[name], value)
		if err != nil {
			return nil, err
		}
		t[name] = merged
	}

	return Encode(t)
}

// ErrNoDiffID means that a layer's diff ID is not known where one is needed.
var ErrNoDiffID = errors.New("diff ID is not known")
