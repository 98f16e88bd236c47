#!/usr/bin/env bash
# Packs in a shell pipeline: `-` for paths on stdin, tab-separated tables in a pipe, --json.
#
#     examples/pipeline.sh                      # learns fashion and sketches first; half a minute
#     examples/pipeline.sh runs/*               # or takes runs you have; seconds
#
# Needs the extra `demo`, no download. What it printed:
#
#     packed: zoo.safetensors
#     tasks, smallest first:
#     fashion	piggyback	474120
#     sketches	piggyback	627840
#     layers with the most zeros in the last task:
#     blocks.4.0.conv_pwl.weight
#     blocks.3.0.conv_dw.weight
#     blocks.1.1.conv_pwl.weight
#     share of equal bits with the first task, from JSON:
#     fashion 1.0
#     sketches 0.9228574295162019
#     every pack below a folder:
#     1101960

set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
zoo="$folder/zoo.safetensors"

# stdout is the run's path and nothing else, so it can be kept, or piped on
if (($#)); then
    printf '%s\n' "$@"
else
    for task in fashion sketches; do
        maskpack -q train-mask --backbone efficientnet_lite0 --task "$task" --img-size 32 \
            --epochs 1 --lr 3e-4 --head-lr 3e-3 -o "$folder/$task"
    done
fi | maskpack -q pack - -o "$zoo" >"$folder/name"
echo "packed: $(basename "$(cat "$folder/name")")"

# One table of those that inspect prints: the lines between its title and the next empty one
table() { awk -v title="# $1" '$0 == title { on = 1; next } /^$/ { on = 0 } on'; }
# Columns by name, whatever their order
columns() {
    awk -F '\t' -v names="$1" '
        BEGIN { n = split(names, wanted, ",") }
        NR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; next }
        { for (i = 1; i <= n; i++) printf "%s%s", $at[wanted[i]], i < n ? "\t" : "\n" }'
}

echo "tasks, smallest first:"
maskpack inspect "$zoo" | table "bytes by task" | columns task,method,total | sort -t $'\t' -k 3n

echo "layers with the most zeros in the last task:"
maskpack inspect "$zoo" | table "share of zeros by layer" | sed 1d |
    awk -F '\t' '{ print $NF "\t" $1 }' | sort -gr | sed -n 1,3p | cut -f 2

echo "share of equal bits with the first task, from JSON:"
maskpack inspect "$zoo" --json | python3 -c '
import json, sys
first = json.load(sys.stdin)["similarity"][0]["similarity"]
for task, share in first.items():
    print(task, share)'

echo "every pack below a folder:"
find "$folder" -name '*.safetensors' ! -path '*/best.*' ! -path '*/last.*' |
    maskpack inspect - --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["bytes"])'
