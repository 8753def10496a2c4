#!/usr/bin/env bash
# Makes the project's own small teacher and student that the export to diffusers is tested with.
set -euo pipefail
cd "$(dirname "$0")/../.."
fewstep=${FEWSTEP:-${CARGO_TARGET_DIR:-target}/release/fewstep}
run=$(mktemp -d)
trap 'rm -r "$run"' EXIT
common=(--data assets/fashion-mnist-small --batch 64 --seed 1 --precision f32)
"$fewstep" train-teacher "${common[@]}" --out "$run/teacher" --images 3200 --width 8 --blocks 1,3,2 --heads 2
"$fewstep" distill "${common[@]}" --teacher "$run/teacher/teacher.safetensors" --out "$run/student" --steps 2 --first 2 \
  --guided-images 1600 --images 800
cp "$run/teacher/teacher.f16.safetensors" tests/diffusers/teacher.safetensors
cp "$run/student/student-2.f16.safetensors" tests/diffusers/student-2.safetensors
