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
