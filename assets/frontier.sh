#!/usr/bin/env bash
# Students of other shapes, each with the same few pictures of training: quality against multiply-accumulates and bytes.
# Killed, it goes on where it was. Usage: assets/frontier.sh [DATA], DATA as for make.sh. FEWSTEP names a program that is
# built already.
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-/usr/share/datasets/fashion-mnist}
runs=${RUNS:-runs}/frontier
fewstep=${FEWSTEP:-}
if [ -z "$fewstep" ]; then
  cargo build --release
  fewstep=${CARGO_TARGET_DIR:-target}/release/fewstep
fi
mkdir -p "$runs"

images=()
# Width, then residual blocks before going down, at the lowest level, after coming up.
for shape in 24:3,1,4 24:2,3,3 32:1,2,2 32:4,1,4 32:2,5,3 40:4,2,4 32:6,4,6; do
  name=c${shape/:/-}
  name=${name//,/}
  "$fewstep" distill --teacher assets/fashion-mnist-teacher.safetensors --data "$data" --out "$runs/$name" --resume \
    --width "${shape%:*}" --blocks "${shape#*:}" --method mcd --target guided --steps 4 --guidance-power 2 \
    --guided-images 19200 --images 12800 --batch 64 --ema 0.99 --seed 1
  "$fewstep" export "$runs/$name/student-4.safetensors" --steps 4 --out "$runs/$name.fsw"
  images+=("$runs/$name.fsw")
done
"$fewstep" evaluate "${images[@]}" --data "$data" --features assets/fashion-mnist-features.safetensors --guidance 0,1 \
  --count 2000 --out "$runs/report"
log=assets/runs/frontier
mkdir -p "$log"
# { "NAME": what inspect says, ... }
{
  separator='{'
  for image in "${images[@]}"; do
    name=$(basename "$image" .fsw)
    printf '%s"%s": ' "$separator" "$name"
    "$fewstep" inspect "$image" --json
    separator=,
    mkdir -p "$log/$name"
    cp "$runs/$name/options.json" "$runs/$name/stats.jsonl" "$log/$name/"
  done
  printf '}\n'
} >"$log/shapes.json"
cp "$runs/report/report.json" "$log/"
