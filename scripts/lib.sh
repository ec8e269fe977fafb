# shellcheck shell=sh
# What the scripts with real programs share. A script sets nothing before it reads this
# file; afterwards it has $root, $work (removed at the end), ocikit on its PATH, and the
# functions below. Exit status 75 means skipped.
set -eu
umask 022
root=$(cd "$(dirname "$0")/../.." && pwd)
name=$(basename "$0")
work=$(mktemp -d)
pids=
gobin=${OCIKIT_GOBIN:-$work/gobin}
PATH=$gobin:$PATH
finish() {
    for p in $pids; do kill "$p" 2>/dev/null || :; done
    for p in $pids; do wait "$p" 2>/dev/null || :; done
    rm -rf "$work" 2>/dev/null || :
}
trap finish EXIT
trap 'exit 130' INT TERM

fail() {
    printf 'FAIL %s: %s\n' "$name" "$*" >&2
    exit 1
}

skip() {
    [ -z "${OCIKIT_REAL:-}" ] || fail "$* (with --real nothing may be skipped)"
    printf 'SKIP %s: %s\n' "$name" "$*"
    exit 75
}

# need skips the script unless all programs are there.
need() {
    for p; do
        command -v "$p" >/dev/null 2>&1 || skip "$p is not installed"
    done
}

need_root() { [ "$(id -u)" = 0 ] || skip "it needs root"; }

ok() { printf '  ok %s\n' "$*"; }

# same fails unless two values are equal.
same() { [ "$2" = "$3" ] || fail "$1: got $2, want $3"; }

# status runs a command, which must end with the given status and print one line, and at
# most one hint, on standard error.
status() {
    status_want=$1
    shift
    code=0
    "$@" >"$work/out" 2>"$work/err" </dev/null || code=$?
    [ "$code" = "$status_want" ] || fail "$*: status $code, want $status_want: $(cat "$work/err")"
    lines=$(grep -cv '^hint: ' "$work/err" || :)
    [ "$status_want" = 0 ] || [ "$lines" = 1 ] || fail "$*: $lines lines on standard error: $(cat "$work/err")"
}

# digest_of prints the digest of the descriptor on standard input.
digest_of() { sed -n 's/.*"digest":"\([^"]*\)".*/\1/p'; }

# peak runs a command and writes the peak of its memory in KiB to a file.
peak() {
    file=$1
    shift
    command time -f %M -o "$file" "$@"
}

# start_registry starts Debian's docker-registry with the given lines of YAML added to its
# configuration, and sets $registry to its address and $data to its directory. A second
# operand names the program to start in its place: "registry", which is distribution v3.
start_registry() {
    program=${2:-docker-registry}
    need "$program"
    n=$((${n:-0} + 1))
    data=$work/registry$n
    mkdir -p "$data"
    printf 'version: 0.1\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: "127.0.0.1:0"}\n%s\n' "$data" "$1" >"$data.yml"
    export OTEL_TRACES_EXPORTER=none # distribution v3 would look for a collector
    listening "$program" serve "$data.yml"
}

# start_crane starts the registry of crane, which keeps everything in memory, and sets
# $registry to its address.
start_crane() {
    need_crane
    n=$((${n:-0} + 1))
    listening crane registry serve --address 127.0.0.1:0
    registry=127.0.0.1:${registry##*:}
}

# listening starts a server and sets $registry to the address that its log says it listens on.
listening() {
    mkfifo "$work/log$n" "$work/addr$n"
    "$@" >"$work/log$n" 2>&1 &
    pids="$pids $!"
    sed -un 's/.*\(listening on\|serving on port\) \([][0-9.:]*[0-9]\).*/\2/p' <"$work/log$n" >"$work/addr$n" &
    read -r registry <"$work/addr$n" || fail "$1 did not start"
}

# shellcheck disable=SC2034 # scripts use $registry
# start_serve starts ocikit serve on a directory, with more flags if need be, and sets $registry
# to its address.
start_serve() {
    n=$((${n:-0} + 1))
    mkfifo "$work/addr$n"
    ocikit serve --listen 127.0.0.1:0 --log none "$@" >"$work/addr$n" &
    pids="$pids $!"
    read -r registry <"$work/addr$n" || fail "ocikit serve did not start"
}

# start_docker starts a dockerd of our own, with $dockerd_flags too, and sets DOCKER_HOST.
start_docker() {
    need dockerd docker containerd runc
    need_root
    d=$work/docker
    mkdir -p "$d"
    export DOCKER_HOST="unix://$d/sock"
    # shellcheck disable=SC2086 # they are words
    dockerd ${dockerd_flags:-} --iptables=false --bridge=none --storage-driver=vfs --data-root "$d/data" --exec-root "$d/exec" \
        --pidfile "$d/pid" -H "$DOCKER_HOST" >"$d/log" 2>&1 &
    pids="$pids $!"
    dockerd_pid=$!
    until docker version >/dev/null 2>&1; do
        kill -0 "$dockerd_pid" 2>/dev/null || fail "dockerd ended: $(tail -n 3 "$d/log")"
    done
}

# free_port prints a port that is free, and none of those that the system gives to whoever asks for any.
free_port() {
    perl -MIO::Socket::INET -e 'do { $p = 10000 + int rand 20000 }
        until IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1", LocalPort => $p); print $p'
}

# shellcheck disable=SC2034 # scripts use $front
# start_nginx puts nginx before $registry and sets $front to its address. Its operands are lines of
# nginx's configuration: in its server, in http, behind "listen"; then what stands for $registry.
# $nginx_host is what the registry is told as its name.
start_nginx() {
    n=$((${n:-0} + 1))
    front=127.0.0.1:$(free_port)
    cat >"$work/nginx$n.conf" <<END
$([ "$(id -u)" != 0 ] || echo 'user root;') daemon off; pid $work/nginx$n.pid; error_log $work/nginx$n.log;
events {}
http {
    access_log off; client_body_temp_path $work/nginx$n.body; proxy_temp_path $work/nginx$n.proxy;
    fastcgi_temp_path $work/nginx$n.f; uwsgi_temp_path $work/nginx$n.u; scgi_temp_path $work/nginx$n.s;
    ${2:-}
    server {
        listen $front ${3:-};
        proxy_http_version 1.1; proxy_set_header Host ${nginx_host:-\$http_host};
        location / { proxy_pass http://${4:-$registry}; }
        ${1:-client_max_body_size 0;}
    }
}
END
    nginx -c "$work/nginx$n.conf" -p "$work" 2>"$work/nginx$n.err" &
    pids="$pids $!"
    until curl -sko /dev/null "http://$front/" || curl -sko /dev/null "https://$front/"; do
        kill -0 $! 2>/dev/null || fail "nginx: $(cat "$work/nginx$n.err" "$work/nginx$n.log")"
    done
}

# go_install builds a program from the module of its makers, unless it is there: the release that is
# known to pass, and the newest where that cannot be had. Scripts that share $OCIKIT_GOBIN build it once.
go_install() {
    command -v "$1" >/dev/null 2>&1 && return
    case $1 in
    crane) set -- github.com/google/go-containerregistry/cmd/crane v0.22.1 ;;
    regctl) set -- github.com/regclient/regclient/cmd/regctl v0.11.7 ;;
    oras) set -- oras.land/oras/cmd/oras v1.3.6 ;;
    registry) set -- github.com/distribution/distribution/v3/cmd/registry v3.1.2 ;;
    conformance) set -- github.com/opencontainers/distribution-spec/conformance v0.0.0-20260831232431-97274622c111 ;;
    esac
    GOBIN=$gobin GOFLAGS=-mod=mod go install "$1@$2" || GOBIN=$gobin GOFLAGS=-mod=mod go install "$1@latest"
}

# need_crane, need_regctl, need_oras and need_distribution skip the script unless the program is there;
# with --real it is built first.
need_crane() {
    [ -z "${OCIKIT_REAL:-}" ] || go_install crane
    need crane
}

need_regctl() {
    [ -z "${OCIKIT_REAL:-}" ] || go_install regctl
    need regctl
}

need_oras() {
    [ -z "${OCIKIT_REAL:-}" ] || go_install oras
    need oras
}

need_distribution() {
    [ -z "${OCIKIT_REAL:-}" ] || go_install registry
    need registry
}

# shellcheck disable=SC2034 # scripts use $proxy
# start_proxy puts a network with the given flags before $registry, and sets $proxy to the
# address to use. stop_proxy ends it; what passed is in $work/passed then, see passed.
start_proxy() {
    [ -x "$work/slowproxy" ] || (cd "$root" && go build -o "$work/" ./testdata/slowproxy)
    n=$((${n:-0} + 1))
    mkfifo "$work/addr$n"
    "$work/slowproxy" -stats "$work/passed" "$@" "$registry" >"$work/addr$n" &
    proxy_pid=$!
    pids="$pids $proxy_pid"
    read -r proxy <"$work/addr$n" || fail "slowproxy did not start"
}

stop_proxy() {
    kill "$proxy_pid"
    wait "$proxy_pid" || fail "slowproxy: status $?"
}

# passed prints a number of what passed a proxy: connections, up, down, cuts, pause.
passed() { sed -n "s/.*\"$1\":\([0-9.]*\).*/\1/p" "$work/passed"; }

# hello_image makes the layout "app" with the image of the demo in the current directory.
hello_image() {
    mkdir -p rootfs/bin
    (cd "$root" && CGO_ENABLED=0 GOOS=linux go build -trimpath -ldflags=-buildid= -o "$work/hello-cloud" ./testdata/hello-cloud)
    cp "$work/hello-cloud" rootfs/bin/hello-cloud
    ocikit init app
    ocikit tar ./rootfs | ocikit layer app |
        ocikit config app --arch local --env PATH=/bin --entrypoint '["hello-cloud"]' --cmd '["Cloud Native Central!"]' |
        ocikit manifest app | ocikit tag app:latest >tagged.json
}

command -v ocikit >/dev/null 2>&1 || {
    mkdir "$work/bin"
    (cd "$root" && go build -o "$work/bin/" ./cmd/ocikit)
    PATH=$work/bin:$PATH
}
mkdir "$work/in"
cd "$work/in"
