#!/usr/bin/env bash
# Makes the colour models from emoji, 32x32x3: data, teacher, student of four steps, feature classifier, run logs. Killed,
# it goes on where it was. Usage: assets/make-emoji.sh [FOLDER], a folder for data and runs (default: runs/emoji). Needs npm
# and python3 with venv. FEWSTEP names a program that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/emoji}
fewstep=${FEWSTEP:-}
if [ -z "$fewstep" ]; then
  cargo build --release
  fewstep=${CARGO_TARGET_DIR:-target}/release/fewstep
fi
mkdir -p "$work"

[ -d "$work/package" ] ||
  (cd "$work" && npm pack --silent emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz)
[ -d "$work/venv" ] || (python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet numpy==2.4.6 pillow==13.0.0)
data() { # NAME SIDE OPTIONS
  [ -f "$work/data-$1/classes.txt" ] ||
    "$work/venv/bin/python" assets/emoji.py "$work/package" "$work/data-$1" --side "${@:2}"
}
data all 32 --set all
data 32 32

keep() { # RUN: its options and statistics
  mkdir -p "assets/runs/emoji-$1"
  cp "$work/$1/options.json" "$work/$1/stats.jsonl" "assets/runs/emoji-$1/"
}
# What emoji of all kinds have in common, then 32x32x3 of faces.
"$fewstep" train-teacher --data "$work/data-all" --out "$work/teacher-all" --resume --images 120000 --batch 32 --lr 1e-3 \
  --ema 0.999 --blocks 1,4,1 --seed 1
keep teacher-all
"$fewstep" train-teacher --data "$work/data-32" --out "$work/teacher-32" --resume --images 64000 --batch 32 --lr 1e-3 \
  --ema 0.999 --blocks 1,4,1 --start "$work/teacher-all/teacher.safetensors" --seed 1
keep teacher-32
# Students from a stage 1 that draws low strengths oftener.
"$fewstep" distill --teacher "$work/teacher-32/teacher.safetensors" --data "$work/data-32" --out "$work/student-32" --resume \
  --method mcd --target guided --steps 4 --guidance-power 2 --batch 32 --guided-images 8000 --images 16000 --ema 0.995 --seed 1
keep student-32
"$fewstep" export "$work/student-32/student-4.safetensors" --steps 4 --out assets/emoji-32-student-4.fsw
cp "$work/teacher-32/teacher.f16.safetensors" assets/emoji-32-teacher.safetensors
[ -f assets/emoji-32-features.safetensors ] ||
  "$fewstep" train-features --data "$work/data-32" --out assets/emoji-32-features.safetensors --images 40000 --seed 1
