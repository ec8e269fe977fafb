package bundle

import (
	"encoding/json"
	"errors"
	"io/fs"
	"reflect"
	"strings"
	"testing"

	"ocikit/oci"
)

const (
	testPasswd = "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken:x\nweb:x:33:44:web:/var/www:/bin/false\nbad:x:no:1::/:\n"
	testGroup  = "root:x:0:\nwww:x:44:web\nlog:x:55:other,web\nadm:x:66:web\nsys:x:nan:web\n"
)

func testFiles(path string) ([]byte, error) {
	switch path {
	case "/etc/passwd":
		return []byte(testPasswd), nil
	case "/etc/group":
		return []byte(testGroup), nil
	}
	return nil, fs.ErrNotExist
}

func noFiles(string) ([]byte, error) { return nil, fs.ErrNotExist }

// The rules of "Config.User" in conversion.md.
func TestRuntimeUser(t *testing.T) {
	for _, test := range []struct {
		user  string
		files func(string) ([]byte, error)
		want  runtimeIDs
		err   error
	}{
		{"", noFiles, runtimeIDs{}, nil},
		{"7", noFiles, runtimeIDs{UID: 7}, nil},
		{"7:8", noFiles, runtimeIDs{UID: 7, GID: 8}, nil},
		{"33", testFiles, runtimeIDs{UID: 33, GID: 44}, nil},
		{"33:8", testFiles, runtimeIDs{UID: 33, GID: 8}, nil},
		{"web", testFiles, runtimeIDs{UID: 33, GID: 44, AdditionalGIDs: []uint32{55, 66}}, nil},
		{"web:log", testFiles, runtimeIDs{UID: 33, GID: 55}, nil},
		{"web:9", testFiles, runtimeIDs{UID: 33, GID: 9}, nil},
		{"7:log", testFiles, runtimeIDs{UID: 7, GID: 55}, nil},
		{"nobody", testFiles, runtimeIDs{}, errNoUser},
		{"nobody", noFiles, runtimeIDs{}, errNoUser},
		{"web:nogroup", testFiles, runtimeIDs{UID: 33}, errNoUser},
		{"broken", testFiles, runtimeIDs{}, errNoUser},
		{"bad", testFiles, runtimeIDs{}, oci.ErrMalformed},
		{"-1", testFiles, runtimeIDs{}, errNoUser},
		{"4294967296", testFiles, runtimeIDs{}, errNoUser},
	} {
		got, err := runtimeUser(test.user, Options{ReadFile: test.files})
		if !errors.Is(err, test.err) || err == nil && !reflect.DeepEqual(got, test.want) {
			t.Errorf("runtimeUser(%q) = %+v, %v; want %+v, %v", test.user, got, err, test.want, test.err)
		}
	}
}

func TestConfig(t *testing.T) {
	v := oci.View{
		OS: "linux", Architecture: "arm64", Variant: "v8", OSVersion: "1", OSFeatures: []string{"a", "b"}, Author: "me", Created: "2020-01-01T00:00:00Z",
		Config: oci.Execution{
			Entrypoint: []string{"/bin/x", "-y"}, Cmd: []string{"z"}, Env: []string{"A=1", "PATH=/x"}, WorkingDir: "/srv", StopSignal: "SIGINT",
			ExposedPorts: map[string]struct{}{"80/tcp": {}, "443": {}}, Volumes: map[string]struct{}{"/data": {}, "cache": {}},
			Labels: map[string]string{"k": "<v>", "org.opencontainers.image.author": "label wins"},
		},
	}
	data, err := Config(v, Options{ReadFile: noFiles})
	if err != nil {
		t.Fatal(err)
	}
	var spec runtimeSpec
	if err := json.Unmarshal(data, &spec); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(spec.Process.Args, " "); got != "/bin/x -y z" {
		t.Errorf("args %q", got)
	}
	if got := strings.Join(spec.Process.Env, " "); got != "A=1 PATH=/x" {
		t.Errorf("env %q", got)
	}
	if spec.Process.Cwd != "/srv" || spec.Root.Path != "rootfs" || spec.Process.Terminal {
		t.Errorf("cwd %q, root %q", spec.Process.Cwd, spec.Root.Path)
	}
	const p = "org.opencontainers.image."
	want := map[string]string{
		"k": "<v>", p + "author": "label wins", p + "os": "linux", p + "architecture": "arm64", p + "variant": "v8", p + "os.version": "1",
		p + "os.features": "a,b", p + "created": "2020-01-01T00:00:00Z", p + "stopSignal": "SIGINT", p + "exposedPorts": "443,80/tcp",
	}
	if !reflect.DeepEqual(spec.Annotations, want) {
		t.Errorf("annotations %v, want %v", spec.Annotations, want)
	}
	var volumes []string
	for _, m := range spec.Mounts {
		if len(m.Options) > 0 && m.Options[len(m.Options)-1] == "tmpcopyup" {
			volumes = append(volumes, m.Destination)
		}
	}
	if strings.Join(volumes, " ") != "/data /cache" && strings.Join(volumes, " ") != "/cache /data" {
		t.Errorf("volumes %v", volumes)
	}
	again, err := Config(v, Options{ReadFile: noFiles})
	if err != nil || string(again) != string(data) {
		t.Errorf("a second config differs, %v", err)
	}

	empty, err := Config(oci.View{}, Options{ReadFile: noFiles, Rootless: true, UID: 1000, GID: 100})
	if err != nil {
		t.Fatal(err)
	}
	spec = runtimeSpec{}
	if err := json.Unmarshal(empty, &spec); err != nil {
		t.Fatal(err)
	}
	if spec.Process.Cwd != "/" || strings.Join(spec.Process.Args, " ") != "sh" || len(spec.Process.Env) != 1 || spec.Linux.UIDMappings[0] != (runtimeMapping{0, 1000, 1}) || spec.Linux.GIDMappings[0].Host != 100 {
		t.Errorf("empty config: %+v", spec)
	}
	for _, n := range spec.Linux.Namespaces {
		if n.Type == "network" {
			t.Error("a network namespace without root")
		}
	}
}

// A bundle without root maps the user 0 alone, and runc refuses to start a process with any other user
// or group.
func TestRuntimeUserRootless(t *testing.T) {
	passwd := func(path string) ([]byte, error) {
		return map[string][]byte{"/etc/passwd": []byte("root:x:0:0::/:\nweb:x:33:44::/:\n"), "/etc/group": []byte("disk:x:6:root\n")}[path], nil
	}

	for _, test := range []struct {
		user    string
		notices int
	}{{"", 0}, {"0", 0}, {"0:0", 0}, {"root", 1}, {"web", 1}, {"0:7", 1}, {"7:0", 1}} {
		notices := 0
		o := Options{ReadFile: passwd, Rootless: true, UID: 1000, GID: 100, Notice: func(string) { notices++ }}
		data, err := Config(oci.View{Config: oci.Execution{User: test.user}}, o)
		if err != nil {
			t.Errorf("user %q: %v", test.user, err)
			continue
		}

		var spec runtimeSpec
		if err := json.Unmarshal(data, &spec); err != nil {
			t.Fatal(err)
		}

		if !reflect.DeepEqual(spec.Process.User, runtimeIDs{}) || notices != test.notices {
			t.Errorf("user %q: runs as %+v with %d notices, want 0:0 with %d", test.user, spec.Process.User, notices, test.notices)
		}
	}
}
