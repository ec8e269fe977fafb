# shellcheck shell=sh
# What the benchmarks share, besides scripts/lib.sh: commands are measured in turn, and
# reported as medians. Every line that a benchmark prints is a row of the same table.
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

# row prints a row of the table: what, wall, CPU, peak, bytes, ratio, the ratio that is wanted, a
# remark. Any of them may be empty.
row() {
    # shellcheck disable=SC2154 # $name comes from scripts/lib.sh
    printf '%-8s %-50s %8s %8s %8s %11s %7s %7s  %s\n' "$name" "$1" "$2" "$3" "$4" "$5" "$6" "$7" "${8:-}"
}

table_head() {
    printf '%-8s %-50s %8s %8s %8s %11s %7s %7s  %s\n' benchmark what "wall s" "CPU s" "peak MiB" bytes ratio "want <=" remark
}

# report prints what was measured under a name, with a size in bytes and a remark.
report() {
    row "$1" "$(printf %.2f "$(median "$1" 1)")" "$(printf %.2f "$(median "$1" 5)")" \
        "$(awk "BEGIN { printf \"%.1f\", $(median "$1" 4) / 1024 }")" "${2:-}" "" "" "${3:-}"
}

# ratio prints the quotient of two numbers beside the figure that is wanted, if there is one.
ratio() {
    quotient=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.3f", a / b }')
    row "$1" "" "" "" "" "$quotient" "${4:-}" "$(awk -v r="$quotient" -v want="${4:-$quotient}" 'BEGIN { if (r > want) print "MISSED" }')${5:-}"
}

# versions prints a line for each program that benchmarks compare with, and is there.
versions() {
    printf '%s, %s processors\n' "$(uname -srm)" "$(getconf _NPROCESSORS_ONLN)"
    go version
    for program in "ocikit version" "skopeo --version" "umoci --version" "podman --version" "docker --version" "crane version" \
        "oras version" "regctl version" "docker-registry --version" "tar --version" "gzip --version" "pigz --version" "curl --version"; do
        command -v "${program%% *}" >/dev/null 2>&1 || continue
        # shellcheck disable=SC2086 # a program and its flag
        printf '%-16s %s\n' "${program%% *}" "$($program 2>&1 | grep -m 1 '[0-9]')"
    done
}

# Alone, a benchmark prints the head of the table itself.
[ -n "${OCIKIT_BENCH:-}" ] || table_head
