#!/usr/bin/env bash
# Makes the colour models: data of emoji, teachers, students, images, feature classifiers and run logs at 32x32x3 and
# 64x64x3, and the student that enlarges to 128x128x3. Killed, it goes on where it was. Usage: assets/make-emoji.sh [FOLDER],
# a folder for data and runs (default: runs/emoji). Needs npm, python3 with venv, and apt-get and dpkg for Debian's
# font. FEWSTEP names a program that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-runs/emoji}
fewstep=${FEWSTEP:-}
if [ -z "$fewstep" ]; then
  cargo build --release
  fewstep=${CARGO_TARGET_DIR:-target}/release/fewstep
fi
mkdir -p "$work"

# Data: 32 and 64 pixels from the package, 128 from the font.
[ -d "$work/package" ] ||
  (cd "$work" && npm pack --silent emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz)
[ -d "$work/font" ] || (cd "$work" && apt-get download fonts-noto-color-emoji && dpkg -x fonts-noto-color-emoji_*.deb font)
[ -d "$work/venv" ] || (python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet numpy==2.4.6 pillow==13.0.0)
font=$work/font/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf
data() { # NAME SIDE OPTIONS
  [ -f "$work/data-$1/classes.txt" ] ||
    "$work/venv/bin/python" assets/emoji.py "$work/package" "$work/data-$1" --side "${@:2}"
}
data all 32 --set all
data 32 32
data 64 64 --pictures 1000
data 128 128 --pictures 250 --test-pictures 20 --font "$font"

keep() { # RUN: its options and statistics
  mkdir -p "assets/runs/emoji-$1"
  cp "$work/$1/options.json" "$work/$1/stats.jsonl" "assets/runs/emoji-$1/"
}
distil() { # NAME: a student of four steps, from a stage 1 that draws low strengths oftener
  "$fewstep" distill --teacher "$work/teacher-$1/teacher.safetensors" --data "$work/data-$1" --out "$work/student-$1" \
    --resume --method mcd --target guided --steps 4 --guidance-power 2 --seed 1 "${@:2}"
  keep "student-$1"
}
features() { # SIDE
  [ -f "assets/emoji-$1-features.safetensors" ] ||
    "$fewstep" train-features --data "$work/data-$1" --out "assets/emoji-$1-features.safetensors" --images 60000 --seed 1
}

# What emoji of all kinds have in common, then 32x32x3 of faces.
"$fewstep" train-teacher --data "$work/data-all" --out "$work/teacher-all" --resume --images 120000 --batch 32 --lr 1e-3 \
  --ema 0.999 --blocks 1,4,1 --seed 1
keep teacher-all
"$fewstep" train-teacher --data "$work/data-32" --out "$work/teacher-32" --resume --images 64000 --batch 32 --lr 1e-3 \
  --ema 0.999 --blocks 1,4,1 --start "$work/teacher-all/teacher.safetensors" --seed 1
keep teacher-32
distil 32 --batch 32 --guided-images 8000 --images 16000 --ema 0.995
"$fewstep" export "$work/student-32/student-4.safetensors" --steps 4 --out assets/emoji-32-student-4.fsw
cp "$work/teacher-32/teacher.f16.safetensors" assets/emoji-32-teacher.safetensors
features 32

# 64x64x3, folded twice as far: the inner network has the shape of the one above and starts as it.
"$fewstep" train-teacher --data "$work/data-64" --out "$work/teacher-64" --resume --images 24000 --batch 32 --lr 1e-3 \
  --ema 0.999 --blocks 1,4,1 --start "$work/teacher-32/teacher.safetensors" --seed 1
keep teacher-64
distil 64 --batch 32 --guided-images 6000 --images 10000 --ema 0.99
"$fewstep" export "$work/student-64/student-4.safetensors" --steps 4 --out assets/emoji-64-student-4.fsw
cp "$work/teacher-64/teacher.f16.safetensors" assets/emoji-64-teacher.safetensors

# 128x128x3 from 64x64x3.
"$fewstep" train-teacher --enlarge --data "$work/data-128" --out "$work/teacher-128" --resume --images 2400 --batch 8 \
  --lr 1e-3 --ema 0.99 --seed 1
keep teacher-128
distil 128 --batch 8 --guided-images 800 --images 1600 --ema 0.99
"$fewstep" export "$work/student-128/student-4.safetensors" --steps 4 --on assets/emoji-64-student-4.fsw \
  --out assets/emoji-128-student-4.fsw
cp "$work/teacher-128/teacher.f16.safetensors" assets/emoji-128-teacher.safetensors
