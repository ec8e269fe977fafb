# shellcheck shell=sh
# What the benchmarks share, besides scripts/lib.sh: commands are measured in turn, and
# reported as medians.
# shellcheck disable=SC2154 # $work comes from scripts/lib.sh
# shellcheck disable=SC2034 # scripts use $runs
runs=${RUNS:-5}

# measure runs a shell command once and notes seconds, user, system and peak KiB under a name.
measure() {
    sync
    command time -a -o "$work/times.$1" -f '%e %U %S %M' sh -c "$2"
}

# median prints the median of a column of what was measured under a name; column 5 is user
# and system together.
median() {
    awk -v c="$2" '{ print (c == 5 ? $2 + $3 : $c) }' "$work/times.$1" | sort -g | awk '{ v[NR] = $1 } END { print (NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2) }'
}

# report prints a line of the table: name, wall, CPU, peak, size.
report() {
    printf '%-28s %8.2f %8.2f %8.1f %12s\n' "$1" "$(median "$1" 1)" "$(median "$1" 5)" "$(awk "BEGIN { print $(median "$1" 4) / 1024 }")" "${2:--}"
}

report_head() { printf '%-28s %8s %8s %8s %12s\n' "$1" "wall s" "CPU s" "peak MiB" "bytes"; }

# ratio prints the quotient of two numbers beside the figure that is wanted.
ratio() {
    awk -v what="$1" -v a="$2" -v b="$3" -v want="$4" 'BEGIN { r = a / b; printf "%-60s %.3f (want at most %s) %s\n", what, r, want, (r <= want ? "" : "MISSED") }'
}

# versions prints a line for each program that benchmarks compare with, and is there.
versions() {
    printf '%s, %s processors\n' "$(uname -srm)" "$(getconf _NPROCESSORS_ONLN)"
    go version
    for program in "skopeo --version" "umoci --version" "podman --version" "docker --version" "crane version" \
        "oras version" "regctl version" "docker-registry --version" "tar --version" "gzip --version" "pigz --version" "curl --version"; do
        command -v "${program%% *}" >/dev/null 2>&1 || continue
        # shellcheck disable=SC2086 # a program and its flag
        printf '%-16s %s\n' "${program%% *}" "$($program 2>&1 | grep -m 1 '[0-9]')"
    done
}
