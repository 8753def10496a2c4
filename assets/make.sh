#!/usr/bin/env bash
# Makes the shipped models from Fashion-MNIST: teacher, students, images, feature classifier, run logs, and the report
# of their quality. Killed, it goes on where it was. Usage: assets/make.sh [DATA], DATA a folder with the four published
# files (Debian: dataset-fashion-mnist).
set -euo pipefail
cd "$(dirname "$0")/.."
data=${1:-/usr/share/datasets/fashion-mnist}
runs=${RUNS:-runs}
cargo build --release
fewstep=${CARGO_TARGET_DIR:-target}/release/fewstep

"$fewstep" train-teacher --data "$data" --out "$runs/teacher" --resume --images 2400000 --seed 1
cp "$runs/teacher/teacher.f16.safetensors" assets/fashion-mnist-teacher.safetensors

# A long run for four steps, in bf16 where the CPU has it.
"$fewstep" distill --teacher "$runs/teacher/teacher.safetensors" --data "$data" --out "$runs/mcd" --resume \
  --method mcd --steps 4 --target teacher --guidance-power 2 --guided-images 256000 --images 500000 --seed 1
cp "$runs/mcd/student-4.f16.safetensors" assets/fashion-mnist-student-4-mcd.safetensors
# More of the low strengths, where students err; two steps and one from there.
"$fewstep" distill --teacher assets/fashion-mnist-teacher.safetensors \
  --start assets/fashion-mnist-student-4-mcd.safetensors --data "$data" --out "$runs/students" --resume \
  --method mcd --target teacher --guidance-power 3 --steps 4,2,1 --images 8000,12000,16000 --batch 64 \
  --student-lr 2e-4 --ema 0.99 --seed 1
cp "$runs/students/student-4.f16.safetensors" assets/fashion-mnist-student-4.safetensors
# Each through its rounding.
for steps in 4 2; do
  "$fewstep" distill --teacher assets/fashion-mnist-teacher.safetensors \
    --start "$runs/students/student-$steps.safetensors" --data "$data" --out "$runs/int8-$steps" --resume \
    --method mcd --target teacher --steps "$steps" --int8-images 1280 --int8-lr 5e-5 --seed 1
  "$fewstep" export "$runs/int8-$steps/student-$steps-int8.safetensors" --steps "$steps" \
    --out "assets/fashion-mnist-student-$steps.fsw"
done
# One step by halving: so few pictures of mcd made a worse one (FD 4.8 instead of 3.3 at w = 0.3).
"$fewstep" distill --teacher "$runs/teacher/teacher.safetensors" --data "$data" --out "$runs/pd" --resume \
  --steps 8,4,2,1 --first 16 --guided-images 256000 --images 128000 --last-factor 3 --seed 1
"$fewstep" export "$runs/pd/student-1.safetensors" --steps 1 --out assets/fashion-mnist-student-1.fsw
# The same student with weights of four bits, through that rounding.
"$fewstep" distill --teacher assets/fashion-mnist-teacher.safetensors --start assets/fashion-mnist-student-4.safetensors \
  --data "$data" --out "$runs/int4-4" --resume --method mcd --target teacher --steps 4 --int4-images 1920 --int4-lr 1e-4 --seed 1
"$fewstep" export "$runs/int4-4/student-4-int4.safetensors" --steps 4 --weights int4 \
  --out assets/fashion-mnist-student-4-int4.fsw
for run in teacher mcd students int8-4 int8-2 int4-4 pd; do
  mkdir -p "assets/runs/$run"
  cp "$runs/$run/options.json" "$runs/$run/stats.jsonl" "assets/runs/$run/"
done
# Figures of two extractors cannot be compared: made anew only where it is missing.
[ -f assets/fashion-mnist-features.safetensors ] ||
  "$fewstep" train-features --data "$data" --out assets/fashion-mnist-features.safetensors --images 600000 --seed 1 \
    --precision f32
# The encoder starts from the student by mcd, whose steps are its own backwards.
"$fewstep" distill --encoder --teacher assets/fashion-mnist-teacher.safetensors \
  --start assets/fashion-mnist-student-4-mcd.safetensors --data "$data" --out "$runs/encoder" --resume \
  --method mcd --steps 4 --target teacher --guidance-power 2 --images 16000 --batch 32 --seed 1 \
  --precision f32
"$fewstep" export "$runs/encoder/encoder-4.safetensors" --steps 4 --data "$data" --out assets/fashion-mnist-encoder-4.fsw
mkdir -p assets/runs/encoder
cp "$runs/encoder/options.json" "$runs/encoder/stats.jsonl" assets/runs/encoder/
"$fewstep" compare assets/fashion-mnist-student-4.fsw assets/fashion-mnist-student-4.safetensors
# 11.5 million evaluations of the teacher: hours on a CPU. Killed, it goes on too.
"$fewstep" evaluate assets/fashion-mnist-student-{4,2,1}.fsw assets/fashion-mnist-student-4.safetensors \
  --teacher assets/fashion-mnist-teacher.safetensors --data "$data" --features assets/fashion-mnist-features.safetensors \
  --runs "$runs/teacher,$runs/students" --out "$runs/report"
mkdir -p assets/report
cp "$runs/report/"*.{json,html,svg,png} assets/report/
