#!/usr/bin/env bash
# Everything that `make bench` measures, into OUT/bench.md:   benchmarks/all.sh OUT RUN PORT CHECK [DATA...]
# A part that cannot be measured here says why, and the rest goes on.
set -uo pipefail
cd "$(dirname "$0")/.."
out=$1 run=$2 port=$3 check=$4
shift 4
mkdir -p "$out"
report=$out/bench.md
failed=0
: >"$report"

say() { printf '%s\n' "$@" | tee -a "$report"; } # a line per argument
part() { # part TITLE COMMAND...: its output into the report; a missed bar is remembered, not the end
    say "" "## $1" ""
    shift
    "$@" 2>"$out/errors.txt" | tee -a "$report"
    local status=${PIPESTATUS[0]}
    if [ "$status" -ne 0 ]; then
        failed=1
        say "" "Status $status: $(tail -n 1 "$out/errors.txt")"
    fi
}

# The references have an environment of their own, made anew when their list changes. It stands on the project's, so
# that both sides run on the same torch and transformers, and nothing large is installed twice.
venv=$out/references
sum=$(cksum <benchmarks/requirements.txt)
if [ "$(cat "$venv/.made" 2>/dev/null)" != "$sum" ]; then
    rm -rf "$venv"
    if .venv/bin/python -m venv "$venv" &&
        echo "$PWD"/.venv/lib/python*/site-packages >"$(echo "$venv"/lib/python*/site-packages)/project.pth" &&
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r benchmarks/requirements.txt 2>"$out/pip.txt"; then
        printf '%s' "$sum" >"$venv/.made"
    else
        say "The references could not be installed: $(grep -v '^ *$' "$out/pip.txt" | tail -n 1)"
        rm -rf "$venv"
    fi
fi

if [ $# -eq 0 ]; then
    [ -e "$out/shop/items.parquet" ] || .venv/bin/recsys data sample --size small --seed 7 --out "$out/shop" >/dev/null
    set -- "$out/shop"
fi
for data in "$@"; do
    part "Augmentation: $(basename "$data")" env OMP_NUM_THREADS=1 .venv/bin/python benchmarks/augment_speed.py \
        --data "$data" --references "$venv/bin/python" --out "$out/$(basename "$data")" $check
done

if "$venv/bin/python" -c "import sentence_transformers" 2>/dev/null; then
    part "Fine-tuning: $(basename "$1")" env OMP_NUM_THREADS=1 .venv/bin/python benchmarks/finetune_speed.py \
        --data "$1" --references "$venv/bin/python" --out "$out/$(basename "$1")" $check
else
    say "" "Left out: fine-tuning beside sentence-transformers, which is not among the references' packages"
fi

part "Steps of the towers" env OMP_NUM_THREADS=1 .venv/bin/python benchmarks/tower_steps.py --out "$out" $check

part "Augmentation of requests" .venv/bin/python benchmarks/online_augment.py $check

if [ -e "$run" ]; then
    part "Requests to the service" benchmarks/run.sh "$run" "$port"
else
    say "" "Left out: requests to the service: there is no run at $run; make one with 'make demo', or name one with RUN="
fi
rm -f "$out/errors.txt" "$out/pip.txt"
echo "bench: written to $report"
exit $failed
