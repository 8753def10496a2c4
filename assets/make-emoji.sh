#!/usr/bin/env bash
# Makes the colour models from emoji: data, teacher and student of four steps of 32x32x3, teachers and students that enlarge
# to 64x64x3 and 128x128x3, feature classifier, run logs. Killed, it goes on where it was. Usage: assets/make-emoji.sh [FOLDER], a folder for data and runs (default: runs/emoji). Needs npm
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
data 64 64
data 128 128

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

# What 64x64x3 has beyond 32x32x3, and, from there, 128x128x3 beyond 64x64x3.
"$fewstep" train-teacher --enlarge --data "$work/data-64" --out "$work/teacher-64" --resume --width 48 --images 30000 --batch 32 \
  --lr 1e-3 --ema 0.998 --seed 1
"$fewstep" train-teacher --enlarge --data "$work/data-128" --out "$work/teacher-128" --resume --width 48 --images 4000 --batch 16 \
  --lr 4e-4 --ema 0.995 --start "$work/teacher-64/teacher.safetensors" --seed 1
enlarging() { # SIDE OPTIONS: a student of that side's teacher
  "$fewstep" distill --teacher "$work/teacher-$1/teacher.safetensors" --data "$work/data-$1" --out "$work/student-$1" --resume \
    --method mcd --target guided --steps 4 --guidance-power 2 --ema 0.99 --seed 1 "${@:2}"
  cp "$work/teacher-$1/teacher.f16.safetensors" "assets/emoji-$1-upscale-teacher.safetensors"
  keep "teacher-$1"
  keep "student-$1"
}
enlarging 64 --batch 32 --guided-images 4000 --images 32000
enlarging 128 --batch 16 --guided-images 2400 --images 4800
"$fewstep" export "$work/student-64/student-4.safetensors" --steps 4 --on assets/emoji-32-student-4.fsw \
  --out assets/emoji-64-upscale-4.fsw
"$fewstep" export "$work/student-128/student-4.safetensors" --steps 4 --on assets/emoji-32-student-4.fsw \
  --on assets/emoji-64-upscale-4.fsw --out assets/emoji-128-upscale-4.fsw
