package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"ocikit/oci"
	"ocikit/oci/registry/wire"
)

// A Stored says where credentials were put, or removed from.
type Stored struct {
	File    string `json:"file"`             // of Docker's form
	Helper  string `json:"helper,omitempty"` // the program that keeps them, "" for the file itself
	Changed bool   `json:"changed"`          // there was something to do
}

// Store puts the user name and password of [Options] where Docker, podman, skopeo and crane find
// them. The file is [Options.StoreFile], else $REGISTRY_AUTH_FILE, else Docker's config.json. If it
// names a credential helper for the registry, the helper gets them and the file only an empty entry.
// The rest of the file stays as it is, and an error leaves it untouched. Two writers at the same
// time can lose an entry.
func (a *Authenticator) Store(ctx context.Context) (Stored, error) {
	k := &credential{username: a.o.Username, password: a.o.Password, registryToken: a.o.RegistryToken}
	if err := k.check(); err != nil {
		return Stored{}, err
	}

	out := Stored{Changed: true}
	err := a.edit(&out, func(f *editedFile, helper string) error {
		// The host may stand in the file in several spellings. An old entry that is left could
		// count before the new one.
		for _, key := range f.hostKeys(a.o.Host) {
			delete(f.auths, key)
		}
		key := helperKey(a.o.Host)
		if helper == "" {
			return f.set(key, k)
		}

		// Docker lists the hosts whose credentials are in a store so.
		f.auths[key] = json.RawMessage("{}")
		input, err := json.Marshal(map[string]string{"ServerURL": key, "Username": k.username, "Secret": k.password})
		if err == nil {
			err = a.tell(ctx, helper, "store", string(input))
		}
		return err
	})

	return out, err
}

// Erase removes the entries for the registry from the file that [Authenticator.Store] writes, and
// makes the helper that the file names forget them. It is not an error if there are none.
func (a *Authenticator) Erase(ctx context.Context) (Stored, error) {
	var out Stored
	err := a.edit(&out, func(f *editedFile, helper string) error {
		for _, key := range f.hostKeys(a.o.Host) {
			delete(f.auths, key)
			out.Changed = true
		}
		if helper == "" {
			return nil
		}

		// Helpers do not say whether there was something.
		out.Changed = true
		return a.tell(ctx, helper, "erase", helperKey(a.o.Host))
	})
	return out, err
}

// edit changes the file, and fills in where it is and which helper it names.
func (a *Authenticator) edit(out *Stored, change func(f *editedFile, helper string) error) error {
	name := a.storeFile()
	if name == "" {
		return errors.New("there is no home directory to keep credentials in: name a file")
	}

	f, err := readEditedFile(name)
	if err != nil {
		return err
	}

	out.File = f.name
	helper := f.keeper(a.o.Host)
	if helper != "" {
		out.Helper = "docker-credential-" + helper
	}

	// The helper is asked before the file is written: if it fails, the file does not name
	// credentials that nobody has.
	if err := change(f, helper); err != nil {
		return err
	}

	if out.Changed {
		err = f.write()
	}
	return err
}

// storeFile is the file that credentials are put into.
func (a *Authenticator) storeFile() string {
	if a.o.StoreFile != "" {
		return a.o.StoreFile
	}
	if name := a.o.Getenv("REGISTRY_AUTH_FILE"); name != "" {
		return name
	}
	if names := a.usualFiles(); len(names) > 0 && (a.o.Home != "" || a.o.Getenv("DOCKER_CONFIG") != "") {
		return names[0]
	}
	return ""
}

// tell has a helper store or erase something. Erasing what is not there is no error.
func (a *Authenticator) tell(ctx context.Context, helper, verb, input string) error {
	path, err := a.findHelper(helper)
	if err == nil {
		_, err = a.callHelper(ctx, path, verb, input)
	}
	if failed, ok := errors.AsType[*helperError](err); ok && verb == "erase" && notFound(failed.words) {
		return nil
	}
	return err
}

// An editedFile is a credential file that is written again, with everything in it that this
// package does not know.
type editedFile struct {
	*authFile
	members map[string]json.RawMessage
	auths   map[string]json.RawMessage
}

// readEditedFile reads a file, or begins one.
func readEditedFile(name string) (*editedFile, error) {
	// The name may be a link into somebody's collection of settings: what it means is replaced.
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}

	f := &editedFile{members: map[string]json.RawMessage{}}
	known, err := readAuthFile(name, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		known = &authFile{name: name}
	case err != nil:
		return nil, err
	default:
		data, err := os.ReadFile(name)
		if err == nil && len(data) > 0 {
			err = oci.Decode(data, &f.members)
		}
		if err != nil {
			return nil, fmt.Errorf("file %q: it is not one JSON object", name)
		}
	}

	f.authFile, f.auths = known, known.Auths
	if f.auths == nil {
		f.auths = map[string]json.RawMessage{}
	}

	return f, nil
}

// set writes credentials in plain text, as Docker does without a store.
func (f *editedFile) set(key string, k *credential) error {
	entry := map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(k.username + ":" + k.password))}
	if k.registryToken != "" {
		entry = map[string]string{"registrytoken": k.registryToken}
	}
	data, err := json.Marshal(entry)
	f.auths[key] = data
	return err
}

// write replaces the file whole, readable for its owner alone.
func (f *editedFile) write() error {
	auths, err := json.Marshal(f.auths)
	if err != nil {
		return err
	}

	f.members["auths"] = auths
	data, err := json.MarshalIndent(f.members, "", "\t")
	if err != nil {
		return err
	}

	if err := os.MkdirAll(filepath.Dir(f.name), 0o700); err != nil {
		return err
	}

	err = oci.WriteFile(f.name, 0o600, func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("file: %w", err)
	}

	return nil
}

// CheckLogin asks the registry whether it takes the credentials of [Options]. A refusal wraps
// [wire.ErrDenied]. A registry that asks for none takes any, which is said in a notice.
func (a *Authenticator) CheckLogin(ctx context.Context) (TokenInfo, error) {
	info, err := a.Token(ctx)
	if err == nil && info.Scheme == "none" {
		a.c.Notice(fmt.Sprintf("%s asks for no credentials, so nothing was checked", a.o.Host))
	}
	if _, ok := errors.AsType[*wire.StatusError](err); ok && errors.Is(err, wire.ErrDenied) {
		err = fmt.Errorf("%s does not take these credentials: %w", a.o.Host, err)
	}
	return info, err
}
