#!/usr/bin/env bash
# Counts the instructions of whole layers on emulated AArch64 and prints the table of docs/kernels.md. Exact, not sampled:
# a run of three less a run of one, halved. Needs what `./check aarch64` installs, and QEMU with plugins.
#
# `docs/kernels-aarch64.sh`; CARGO_TARGET_DIR is respected.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
target=aarch64-unknown-linux-gnu
folder=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
cargo build --locked --quiet --release -p fewstep-core --features std --example layers --target "$target" --target-dir "$folder"
cargo build --locked --quiet --release --manifest-path firmware-sim/Cargo.toml -p fewstep-insn-plugin --target-dir "$folder/firmware-sim"
counts=$(mktemp)
trap 'rm -f "$counts"' EXIT

# Instructions of the whole program.
count() { # backend, layer, times
  qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu \
    -plugin "$folder/firmware-sim/release/libfewstep_insn_plugin.so,out=$counts" \
    "$folder/$target/release/examples/layers" "$@" >/dev/null
  awk '/^total/ { print $3 }' "$counts"
}

backends=(neon neon+prepared neon-dotprod neon-dotprod+prepared neon-i8mm neon-i8mm+prepared)
printf '| layer |'; printf ' %s |' "${backends[@]}"; printf '\n|---|'; printf '%.0s---|' "${backends[@]}"; printf '\n'
for layer in 3x3:14x14x32:32 3x3:7x7x64:64 3x3:16x16x32:32 3x3:14x14x48:48 3x3:8x8x64:64 3x3:7x7x96:96 3x3:16x16x128:128 \
  1x1:14x14x48:96 1x1:7x7x64:192 1x1i16:7x7x32:64 3x3i16:14x14x4:32 3x3i16:14x14x32:4 norm:14x14x32 attention:49x64 \
  embed:64x960 pool:14x14x32 upsample:14x14x32 quantize:784; do
  printf '| %s |' "$layer"
  for backend in "${backends[@]}"; do
    once=$(count "$backend" "$layer" 1) thrice=$(count "$backend" "$layer" 3)
    work=$(qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$folder/$target/release/examples/layers" "$backend" "$layer" 1)
    awk "BEGIN { printf \" %.3f |\", ($thrice - $once) / 2 / $work }"
  done
  printf '\n'
done
