// How many times faster simd128 draws than scalar WebAssembly, both in this node, taking turns:
// `node core/wasm/speed.mjs SCALAR.wasm SIMD.wasm FILE.fsw [ROUNDS]`, with `draw` of core/examples compiled without and
// with simd128. Prints both medians in milliseconds a picture and their ratio; exits with 1 if the pictures differ or the
// ratio is below the bar.

import { execFileSync } from "node:child_process";
import { argv, execArgv, execPath, exit } from "node:process";
import { fileURLToPath } from "node:url";

const BAR = 4;
const [scalar, simd, file, rounds = "5"] = argv.slice(2);
const run = fileURLToPath(new URL("run.mjs", import.meta.url));

function draw(program) {
  // Optimized from the start: otherwise the first pictures are drawn by the baseline compiler's code, how many of them is
  // a matter of how busy the machine is.
  const options = [...execArgv, "--no-warnings", "--no-liftoff", run, program, file, "best", "3"];
  const [backend, pictures, time] = execFileSync(execPath, options, { encoding: "utf8" }).trim().split(" ");
  return { backend, pictures, time: Number(time) };
}

const median = (runs) => runs.map((run) => run.time).sort((a, b) => a - b)[runs.length >> 1];
const slow = [], fast = [];
for (let i = 0; i < Number(rounds); i++) {
  slow.push(draw(scalar));
  fast.push(draw(simd));
}
const ratio = median(slow) / median(fast);
console.log(`${slow[0].backend} ${median(slow)} ms, ${fast[0].backend} ${median(fast)} ms a picture: ${ratio.toFixed(2)} times`);
if (slow.concat(fast).some((run) => run.pictures !== slow[0].pictures)) {
  console.error("the pictures differ");
  exit(1);
}
if (fast[0].backend === slow[0].backend || !(ratio >= BAR)) {
  console.error(`below ${BAR} times`);
  exit(1);
}
