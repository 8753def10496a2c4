// The page: controls ask the student, answers become pictures.

import { load, show } from "./canvas.js";
import { Drawing } from "./drawing.js";
import { MAX_SEED, Student, Turns } from "./student.js";

// Caps of the core: larger files are refused before they are read.
const MAX_FILE_BYTES = 64 << 20;
// Each step of a filled hole is done twice, so that what is drawn and what is kept grow together.
const PASSES = 2;
const PLAY_MILLISECONDS = 3000;

const $ = (id) => document.getElementById(id);
const student = new Student();
// { height, width, channels, classes, steps, guidance, ..., names, file }, once a student is open.
let about = null;

// ---- what is said

function complain(error) {
  $("alert-text").textContent = error.message;
  $("alert").hidden = false;
}
$("alert-close").onclick = () => {
  $("alert").hidden = true;
  $("guidance").focus();
};

let speaking = 0;
// To screen readers, once the hand rests.
function say(text) {
  clearTimeout(speaking);
  speaking = setTimeout(() => ($("status").textContent = text), 500);
}

// ---- what is asked for

const chosen = (name) => document.querySelector(`input[name=${name}]:checked`)?.value;
const strength = (w) => w.toFixed(2).replace(/\.?0+$/, "");

// The seed in a field, or the last right one.
const seeds = {};
function seed(id) {
  const value = $(id).value.trim();
  const right = /^\d{1,20}$/.test(value) && BigInt(value) <= MAX_SEED;
  $(id).setAttribute("aria-invalid", String(!right));
  $(`${id}-wrong`).hidden = right;
  if (right) seeds[id] = BigInt(value);
  return seeds[id] ?? 0n;
}

function request() {
  return {
    seed: seed("seed"),
    class: Number(chosen("class") ?? 0),
    w: Math.fround($("guidance").value),
    steps: Number($("steps").value),
  };
}

const name = ({ seed, class: c, w }) => `${about.names[c]}, w = ${strength(w)}, seed ${seed}`;

// ---- Draw

async function draw(asked = request()) {
  const { pixels, milliseconds } = await student.sample(asked);
  show($("picture"), pixels, about);
  $("picture").setAttribute("aria-label", name(asked));
  $("caption").textContent = `${about.names[asked.class]}, seed ${asked.seed}: ${milliseconds.toFixed(1)} ms`;
  say(`Drawn: ${name(asked)}`);
}

// Classes whose small pictures are of an older request. One is drawn a turn, the one that waits longest first.
const faded = new Set();
async function drawClass() {
  const [c] = faded;
  faded.delete(c);
  const { pixels } = await student.sample({ ...request(), class: c });
  const canvas = document.querySelectorAll("#classes canvas")[c];
  if (canvas) show(canvas, pixels, about);
  if (faded.size) turns.want("drawClass");
}

function describe() {
  const asked = request();
  $("guidance-value").textContent = strength(asked.w);
  $("guidance").setAttribute("aria-valuetext", `w = ${strength(asked.w)}`);
  $("command").textContent =
    `fewstep sample ${about.file} --class ${asked.class} --guidance ${strength(asked.w)} --seed ${asked.seed}` +
    ` --steps ${asked.steps} --out picture.png`;
  const place = new URLSearchParams({ class: asked.class, w: strength(asked.w), seed: asked.seed, steps: asked.steps });
  history.replaceState(null, "", `#${place}`);
}

// Something about the picture at the top changed.
function changed() {
  if (!about) return;
  describe();
  turns.want("draw", "edit", "morph");
}
function changedAll() {
  if (!about) return;
  for (let c = 0; c < about.classes; c++) faded.add(c);
  changed();
  turns.want("drawClass");
}

$("guidance").oninput = changedAll;
$("steps").onchange = changedAll;
$("seed").oninput = changedAll;
$("seed-next").onclick = () => {
  $("seed").value = String((seed("seed") + 1n) & MAX_SEED);
  changedAll();
};
$("classes").onchange = changed;
$("save").onclick = () =>
  $("picture").toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${about ? name(request()).replace(/[^\w.]+/g, "-") : "picture"}.png`;
    link.click();
    URL.revokeObjectURL(link.href);
  });

// ---- Draw and edit

function colour() {
  const value = $("colour").value;
  if (about.channels < 3) return [Number(value), 255].slice(0, about.channels);
  const of = (at) => parseInt(value.slice(at, at + 2), 16);
  return [of(1), of(3), of(5), 255].slice(0, about.channels);
}
const tool = () => ({ kind: chosen("tool"), colour: colour(), size: Number($("brush").value) });

let editedPixels = null;
async function edit() {
  const asked = request();
  const done = Math.min(Number($("strength").value), asked.steps);
  const start = asked.steps - done;
  $("strength-value").textContent = `${done} of ${asked.steps} steps`;
  $("strength").setAttribute("aria-valuetext", $("strength-value").textContent);
  $("brush-value").textContent = `${$("brush").value} pixels`;
  const { pixels } = drawing.hole
    ? await student.inpaint(asked, drawing.pixels, drawing.mask, start, PASSES)
    : await student.edit(asked, drawing.pixels, start);
  editedPixels = pixels;
  show($("edited"), pixels, about);
  const what = `The drawing as ${about.names[asked.class]}${drawing.hole ? ", the hole filled" : ""}`;
  $("edited").setAttribute("aria-label", `${what}, ${$("strength-value").textContent}`);
  $("edited-caption").textContent = about.names[asked.class];
}

const drawing = new Drawing($("drawing"), $("cursor"), tool, () => turns.want("edit"), say);

function replaceDrawing(pixels) {
  drawing.pixels.set(pixels);
  drawing.refresh();
}
$("take").onclick = async () => {
  replaceDrawing((await student.sample(request())).pixels);
  say("The picture is on the drawing board");
  $("drawing").focus();
};
$("clear").onclick = () => drawing.reset(about);
$("unmark").onclick = () => {
  drawing.mask.fill(0);
  drawing.refresh();
};
$("keep").onclick = () => editedPixels && replaceDrawing(editedPixels);
for (const id of ["strength", "brush"]) $(id).oninput = () => about && turns.want("edit");

// ---- Morph

async function morph() {
  const at = Number($("way").value) / 100;
  const to = { seed: seed("to-seed"), class: Number($("to-class").value) };
  $("way-value").textContent = `${$("way").value} %`;
  $("way").setAttribute("aria-valuetext", `${$("way").value} percent`);
  const asked = request();
  const { pixels } = await student.morph(asked, to, Math.fround(at));
  show($("morphed"), pixels, about);
  const ends = `${about.names[asked.class]} to ${about.names[to.class]}`;
  $("morphed").setAttribute("aria-label", `${$("way-value").textContent} of the way from ${ends}`);
  $("morph-caption").textContent = ends;
}
$("way").oninput = $("to-seed").oninput = $("to-class").onchange = () => about && turns.want("morph");

// There and back until pressed again.
function play(began, from) {
  const share = ((performance.now() - began) / PLAY_MILLISECONDS + from) % 2;
  $("way").value = String(Math.round(100 * (share > 1 ? 2 - share : share)));
  turns.want("morph");
  if ($("play").getAttribute("aria-pressed") === "true") requestAnimationFrame(() => play(began, from));
}
$("play").onclick = () => {
  const playing = $("play").getAttribute("aria-pressed") === "true";
  $("play").setAttribute("aria-pressed", String(!playing));
  $("play").textContent = playing ? "Play" : "Pause";
  if (!playing && about) play(performance.now(), Number($("way").value) / 100);
};

const turns = new Turns({ draw, edit, morph, drawClass }, complain);

// ---- the student

const thousands = (n) => n.toLocaleString("en");

// What is drawn first: what the address says, else what was chosen before, as far as this student can do it. Sets the
// controls that every student has.
function first(place) {
  const { classes, steps, guidance } = about;
  const range = $("guidance");
  const w = Number(place.get("w") ?? range.value);
  [range.min, range.max, range.step] = [guidance[0], guidance[1], (guidance[1] - guidance[0]) / 80 || "any"];
  range.value = String(Number.isFinite(w) ? w : 1);
  if (place.has("seed")) $("seed").value = place.get("seed");
  const wanted = Number(place.get("steps") ?? 0);
  return {
    seed: seed("seed"),
    class: Math.min(Math.max(Math.trunc(place.get("class") ?? chosen("class")) || 0, 0), classes - 1),
    w: Math.fround(range.value),
    steps: divisors(steps).includes(wanted) ? wanted : steps,
  };
}

const divisors = (steps) => Array.from({ length: steps }, (_, i) => steps - i).filter((n) => steps % n === 0);

// Controls that this student brings along, and what they stand at.
function rebuild(asked) {
  const { classes, steps, guidance, channels, names } = about;
  $("lead-steps").textContent = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight"][steps] ?? steps;
  if (steps === 1) $("lead-steps").nextSibling.textContent = $("lead-steps").nextSibling.textContent.replace("steps", "step");
  const label = (c) => {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "radio", name: "class", value: c, checked: c === asked.class });
    const canvas = Object.assign(document.createElement("canvas"), { width: about.width, height: about.height });
    canvas.setAttribute("aria-hidden", "true");
    label.append(input, canvas, names[c]);
    return label;
  };
  document.querySelector("#classes > div").replaceChildren(...names.map((_, c) => label(c)));
  const option = (value, text) => new Option(text, value);
  const last = Math.min(Number($("to-class").value) || (asked.class + 1) % classes, classes - 1);
  $("to-class").replaceChildren(...names.map((text, c) => option(c, text)));
  $("to-class").value = last;
  $("steps").replaceChildren(...divisors(steps).map((n) => option(n, n)));
  $("steps").value = asked.steps;
  $("strength").max = steps;
  $("strength").value = Math.max(1, Math.round(0.75 * steps));
  $("colour-field").innerHTML =
    channels < 3
      ? '<label for="colour">Brightness</label><input type="range" id="colour" min="0" max="255" value="255">'
      : '<label for="colour">Colour</label><input type="color" id="colour" value="#ffffff">';
  const facts = [
    ["File", `${about.file}, ${thousands(about.fileBytes)} bytes`],
    ["Pictures", `${about.height} x ${about.width}, ${channels < 3 ? "grey" : "colour"}, ${classes} ${classes === 1 ? "class" : "classes"}`],
    ["Steps", `${steps}, each ${thousands(about.macsPerStep)} multiply-accumulates`],
    ["Guidance", `w = ${strength(guidance[0])} to ${strength(guidance[1])}`],
    ["Memory", `${thousands(about.arenaBytes)} bytes`],
    ["Kernels", about.backend],
    ["Provenance", about.provenance.filter(([key]) => key !== "classes").map((pair) => pair.join(": ")).join("; ")],
  ];
  $("facts").replaceChildren(
    ...facts.flatMap(([term, text]) => [
      Object.assign(document.createElement("dt"), { textContent: term }),
      Object.assign(document.createElement("dd"), { textContent: text }),
    ]),
  );
}

async function open(content, file, place = new URLSearchParams()) {
  const { description, fetched } = await student.open(content);
  const names = new Map(description.provenance).get("classes")?.split(", ") ?? [];
  const named = names.length === description.classes;
  about = { ...description, file, names: Array.from({ length: description.classes }, (_, c) => (named ? names[c] : `class ${c}`)) };
  $("alert").hidden = true;
  // Before all else: what is laid out and painted anew would keep the picture waiting.
  const asked = first(place);
  await draw(asked);
  performance.measure("first picture", { start: fetched - performance.timeOrigin });
  rebuild(asked);
  drawing.reset(about);
  describe();
  // A start for the drawing board.
  replaceDrawing((await student.sample(request())).pixels);
  changedAll();
}

async function receive(file) {
  try {
    if (file.type.startsWith("image/")) {
      if (!about) throw new Error("open a student image (.fsw) first");
      const image = await createImageBitmap(file).catch(() => {
        throw new Error(`${file.name}: is no picture that this browser reads`);
      });
      load(image, drawing.pixels, about);
      drawing.refresh();
      say(`${file.name} is on the drawing board`);
      return;
    }
    if (file.size > MAX_FILE_BYTES) throw new Error(`has ${thousands(file.size)} bytes, a student image has at most ${thousands(MAX_FILE_BYTES)}`);
    await open(await file.arrayBuffer(), file.name);
    say(`${file.name} is open`);
  } catch (error) {
    complain(new Error(error.message.startsWith(file.name) ? error.message : `${file.name}: ${error.message}`));
  }
}
for (const id of ["file", "photo"]) {
  $(id).onchange = ({ target }) => {
    if (target.files[0]) receive(target.files[0]);
    target.value = "";
  };
}
document.ondragover = (event) => {
  event.preventDefault();
  $("drop").hidden = false;
};
document.ondragleave = (event) => event.relatedTarget || ($("drop").hidden = true);
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").hidden = true;
  if (event.dataTransfer.files[0]) receive(event.dataTransfer.files[0]);
};

open("student.fsw", "student.fsw", new URLSearchParams(location.hash.slice(1))).catch((error) => {
  $("caption").textContent = "There is no student yet: open or drop one.";
  complain(error);
});
