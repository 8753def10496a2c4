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

# The first teacher is the one that the run of `mcd` learns from; all after that learn from the one it becomes.
"$fewstep" train-teacher --data "$data" --out "$runs/first" --resume --images 2400000 --seed 1
"$fewstep" train-teacher --data "$data" --out "$runs/teacher" --resume --start "$runs/first/teacher.f16.safetensors" \
  --images 5120000 --seed 2
cp "$runs/teacher/teacher.f16.safetensors" assets/fashion-mnist-teacher.safetensors

# A long run for four steps, in bf16 where the CPU has it.
"$fewstep" distill --teacher "$runs/first/teacher.safetensors" --data "$data" --out "$runs/mcd" --resume \
  --method mcd --steps 4 --target teacher --guidance-power 2 --guided-images 256000 --images 500000 --seed 1
cp "$runs/mcd/student-4.f16.safetensors" assets/fashion-mnist-student-4-mcd.safetensors
# Against finer steps of the teacher (64 in all instead of 32), with more of the low strengths, where students err.
long="--teacher assets/fashion-mnist-teacher.safetensors --data $data --resume --method mcd --target teacher --batch 64"
"$fewstep" distill $long --start assets/fashion-mnist-student-4-mcd.safetensors --out "$runs/fine" \
  --steps 4 --images 102400 --segment-steps 16 --student-lr 3e-4 --guidance-power 3 --ema 0.995 --seed 1
"$fewstep" distill $long --start "$runs/fine/student-4.safetensors" --out "$runs/low" \
  --steps 4 --images 89600 --segment-steps 16 --student-lr 2e-4 --guidance-power 4 --ema 0.998 --seed 2
# Two steps and one from there.
"$fewstep" distill $long --start "$runs/fine/student-4.safetensors" --out "$runs/few" \
  --steps 2,1 --images 51200,76800 --segment-steps 16,32 --student-lr 3e-4 --guidance-power 3 --ema 0.995 --seed 1
# These further, against 64 steps of the teacher.
further() { # steps, the teacher's in each, pictures
  "$fewstep" distill $long --start "$runs/few/student-$1.safetensors" --out "$runs/further-$1" \
    --steps "$1" --images "$3" --segment-steps "$2" --student-lr 2e-4 --guidance-power 4 --ema 0.998 --seed 2
}
further 2 32 102400
further 1 64 307200
# Then rounds of matching, each from where the one before ended: pictures that are spread as the data set's without guidance,
# as the teacher's at one strength with it, in the features of classifiers of other seeds than the one that measures.
classifiers=
for seed in 2 3 4 5; do
  [ -f "$runs/features-$seed.safetensors" ] ||
    "$fewstep" train-features --data "$data" --out "$runs/features-$seed.safetensors" --images 400000 --seed "$seed" \
      --precision f32
  classifiers+=${classifiers:+,}$runs/features-$seed.safetensors
done
match() { # steps, the student, the strength, then of each round: pictures, how much wider a start, rate
  local steps=$1 start=$2 goal=$3 round=0 images widen rate
  for round_options in "${@:4}"; do
    read -r images widen rate <<<"$round_options"
    round=$((round + 1))
    "$fewstep" distill $long --start "$start" --out "$runs/match-$steps-$round" --steps "$steps" --finish match \
      --match-guidance "$goal" --features "$classifiers" --widen "$widen" --finish-images "$images" --finish-lr "$rate" \
      --guidance-power 1 --ema 0.98 --seed 1
    start=$runs/match-$steps-$round/student-$steps-finished.safetensors
  done
}
match 4 "$runs/low/student-4.safetensors" 1 "25600 0.06 3e-4" "25600 0.02 3e-4" "25600 0.02 2e-4" "25600 0.02 2e-4" \
  "25600 0 2e-4" "25600 0.02 2e-4" "25600 0 2e-4" "76800 0 2e-4" "153600 0 2e-4"
match 2 "$runs/further-2/student-2.safetensors" 1 "25600 0.06 3e-4" "25600 0.02 3e-4" "25600 0.02 2e-4" "25600 0.02 2e-4" \
  "25600 0.02 2e-4" "25600 0 2e-4" "25600 0 2e-4" "76800 0 2e-4"
match 1 "$runs/further-1/student-1.safetensors" 2 "76800 0.06 3e-4" "51200 0.02 3e-4" "51200 0.02 2e-4" "51200 0.02 2e-4" \
  "51200 0.06 3e-4" "51200 0.02 3e-4" "51200 0.02 2e-4" "51200 0 2e-4" "102400 0.02 2e-4" "153600 0 2e-4"
# The rounding's seed: with some, a few more pixels of `export --onnx qdq --step` are beyond a level (docs/onnx.md).
round() { # steps, the student, seed, rate, what it has more
  "$fewstep" distill $long --start "$2" --out "$runs/round-$1" --steps "$1" --int8-images 1280 --seed "$3" \
    --int8-lr "$4" --guidance-power 2 --ema 0.99 "${@:5}"
  "$fewstep" export "$runs/round-$1/student-$1-int8.safetensors" --steps "$1" --out "assets/fashion-mnist-student-$1.fsw"
}
round 4 "$runs/match-4-9/student-4-finished.safetensors" 4 5e-5 --int4-images 1920 --int4-lr 1e-4
round 2 "$runs/match-2-8/student-2-finished.safetensors" 1 5e-5
round 1 "$runs/match-1-10/student-1-finished.safetensors" 17 1e-4
cp "$runs/match-4-9/student-4-finished.f16.safetensors" assets/fashion-mnist-student-4.safetensors
# The student of four steps with weights of four bits, through that rounding.
"$fewstep" export "$runs/round-4/student-4-int4.safetensors" --steps 4 --weights int4 \
  --out assets/fashion-mnist-student-4-int4.fsw
for run in first teacher mcd fine low few further-{2,1} match-4-{1..9} match-2-{1..8} match-1-{1..10} round-{4,2,1}; do
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
  --method mcd --steps 4 --target teacher --guidance-power 2 --images 204800 --batch 64 --seed 1
"$fewstep" export "$runs/encoder/encoder-4.safetensors" --steps 4 --data "$data" --out assets/fashion-mnist-encoder-4.fsw
mkdir -p assets/runs/encoder
cp "$runs/encoder/options.json" "$runs/encoder/stats.jsonl" assets/runs/encoder/
"$fewstep" compare assets/fashion-mnist-student-4.fsw assets/fashion-mnist-student-4.safetensors
# 11.5 million evaluations of the teacher, half an hour on two quiet cores with AMX, three hours with AVX2. Killed, it goes on
# too; a larger count takes up what a smaller one drew.
"$fewstep" evaluate assets/fashion-mnist-student-{4,2,1}.fsw assets/fashion-mnist-student-4-int4.fsw \
  assets/fashion-mnist-student-4.safetensors --teacher assets/fashion-mnist-teacher.safetensors --data "$data" \
  --features assets/fashion-mnist-features.safetensors --count 10000 --seed 0 --score-images 200000 \
  --runs "$runs/teacher,$runs/few" --out "$runs/report"
mkdir -p assets/report
cp "$runs/report/"*.{json,html,svg,png} assets/report/
