// Runs a WASI program in node, with the repository's files: `node core/wasm/run.mjs PROGRAM.wasm ARGUMENTS...`.
// Cargo's runner of wasm32-wasip1 tests; exits with the program's code.

import { readFile } from "node:fs/promises";
import { argv, env, exit } from "node:process";
import { fileURLToPath } from "node:url";
import { WASI } from "node:wasi";

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = argv[2];
// The program sees the repository under its path on this machine, which its tests know.
const wasi = new WASI({
  version: "preview1",
  args: argv.slice(2),
  env,
  preopens: { [root]: root, "/": root },
  returnOnExit: true,
});
const module = await WebAssembly.compile(await readFile(program));
const instance = await WebAssembly.instantiate(module, wasi.getImportObject?.() ?? { wasi_snapshot_preview1: wasi.wasiImport });
exit(wasi.start(instance));
