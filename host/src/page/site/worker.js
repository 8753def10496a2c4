// Holds the student: the core as WebAssembly. One instance opens one file; another file is another instance.
//
// In:  { id, open: bytes or address }          Out: { id, description, fetched }
//      { id, draw: name, numbers, picture, mask }    { id, pixels, milliseconds }
//                                                    { id, refused: text } where the core or the network refuses
"use strict";

// The smallest module with an instruction of simd128: (func (result v128) i32.const 0 i8x16.splat i8x16.popcnt).
const SIMD = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11];

async function bytes(address) {
  const answer = await fetch(address);
  if (!answer.ok) throw new Error(`${address}: the server answers ${answer.status}`);
  return answer.arrayBuffer();
}

// As bytes, because not every static server knows the type of a .wasm file.
const code = bytes(WebAssembly.validate(new Uint8Array(SIMD)) ? "core-simd128.wasm" : "core.wasm");
// Who asks first hears of it.
code.catch(() => {});
let module = null;
let core = null;
let shape = null;

// Memory may have grown: views are made anew each time.
const view = (at, length) => new Uint8Array(core.memory.buffer, at, length);
const text = (of) => new TextDecoder().decode(new Uint8Array(of.memory.buffer, of.text(), of.text_bytes()));

async function open(file) {
  const content = new Uint8Array(typeof file === "string" ? await bytes(file) : file);
  const program = await code;
  const fetched = performance.timeOrigin + performance.now();
  module ??= await WebAssembly.compile(program);
  const next = (await WebAssembly.instantiate(module)).exports;
  const at = next.image(content.length);
  if (!at && content.length) throw new Error(`there is no memory for a file of ${content.length} bytes`);
  new Uint8Array(next.memory.buffer, at, content.length).set(content);
  if (!next.open()) throw new Error(text(next));
  // From here on: a file that is refused leaves the student before.
  core = next;
  const description = JSON.parse(text(core));
  shape = { pixels: description.height * description.width, channels: description.channels };
  return { description, fetched };
}

function draw({ draw: name, numbers, picture, mask }) {
  if (!core) throw new Error("no student is open");
  if (picture) view(core.picture(), shape.pixels * shape.channels).set(picture);
  if (mask) view(core.mask(), shape.pixels).set(mask);
  const began = performance.now();
  if (!core[name](...numbers)) throw new Error(text(core));
  const milliseconds = performance.now() - began;
  return { pixels: view(core.drawn(), shape.pixels * shape.channels).slice(), milliseconds };
}

onmessage = async ({ data }) => {
  try {
    const answer = "open" in data ? await open(data.open) : draw(data);
    postMessage({ id: data.id, ...answer }, answer.pixels ? [answer.pixels.buffer] : []);
  } catch (error) {
    postMessage({ id: data.id, refused: error.message });
  }
};
