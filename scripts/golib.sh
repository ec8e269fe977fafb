# shellcheck shell=sh
# What the scripts that build ocikit ask of Go first. Their messages are plainer than those of an
# old go command, which may not even read go.mod.

# need_go ends the script unless there is a go command that can build this repository.
need_go() {
    want=$(sed -n 's/^go \([0-9]*\.[0-9]*\).*/\1/p' go.mod)
    command -v go >/dev/null 2>&1 || {
        echo "Go $want or newer is needed, and there is no go command on the PATH; https://go.dev/dl has it" >&2
        exit 1
    }

    # Outside of the module an older release does not look for a newer one.
    have=$(cd / && GOTOOLCHAIN=local go env GOVERSION 2>/dev/null | sed -n 's/^go\([0-9]*\.[0-9]*\).*/\1/p')
    if [ "${have%%.*}" = "${want%%.*}" ] && [ "${have#*.}" -ge "${want#*.}" ]; then
        return 0
    fi

    # Go 1.21 and later fetch what go.mod asks for, where the network lets them.
    go version >/dev/null 2>&1 || {
        echo "Go $want or newer is needed, this is go$have; https://go.dev/dl has it" >&2
        exit 1
    }
}

# race_flag prints the flag of "go test" for the race detector, which needs a C compiler.
race_flag() {
    if [ "$(go env CGO_ENABLED)" = 1 ] && command -v "$(go env CC | cut -d ' ' -f 1)" >/dev/null 2>&1; then
        echo -race
    fi
}
