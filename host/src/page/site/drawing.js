// The board: a picture and a mask that are painted with the pointer or the keyboard.

import { show } from "./canvas.js";

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Drawing {
  pixels = new Uint8Array(0);
  mask = new Uint8Array(0);
  #canvas;
  #cursor;
  #tool;
  #changed;
  #said;
  #shape = null;
  #at = { x: 0, y: 0 };

  // `tool()` gives { kind: "paint", "hole" or "keep", colour: bytes of a pixel, size }; `changed()` is called after
  // each stroke's part, `said(text)` when the keyboard's place changes.
  constructor(canvas, cursor, tool, changed, said) {
    [this.#canvas, this.#cursor, this.#tool, this.#changed, this.#said] = [canvas, cursor, tool, changed, said];
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || !this.#shape) return;
      canvas.setPointerCapture(event.pointerId);
      this.#cursor.hidden = true;
      this.#stroke(this.#place(event), this.#place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!(event.buttons & 1) || !canvas.hasPointerCapture(event.pointerId)) return;
      const from = { ...this.#at };
      this.#stroke(from, this.#place(event));
    });
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focus", () => canvas.matches(":focus-visible") && this.#showCursor());
    canvas.addEventListener("blur", () => (this.#cursor.hidden = true));
  }

  // An empty board of this shape.
  reset(shape) {
    this.#shape = shape;
    this.pixels = new Uint8Array(shape.height * shape.width * shape.channels);
    this.mask = new Uint8Array(shape.height * shape.width);
    this.#at = { x: shape.width >> 1, y: shape.height >> 1 };
    this.refresh();
  }

  get hole() {
    return this.mask.some((value) => value);
  }

  // Shows what is in pixels and mask, and says so. Pixels of the hole are tinted.
  refresh() {
    show(this.#canvas, this.pixels, this.#shape);
    const context = this.#canvas.getContext("2d");
    context.fillStyle = getComputedStyle(this.#canvas).getPropertyValue("--hole");
    context.globalAlpha = 0.75;
    this.mask.forEach((value, i) => value && context.fillRect(i % this.#shape.width, Math.floor(i / this.#shape.width), 1, 1));
    context.globalAlpha = 1;
    this.#changed();
  }

  #place(event) {
    const box = this.#canvas.getBoundingClientRect();
    const { width, height } = this.#shape;
    return {
      x: Math.floor(((event.clientX - box.left) / box.width) * width),
      y: Math.floor(((event.clientY - box.top) / box.height) * height),
    };
  }

  #stroke(from, to) {
    const far = Math.max(Math.abs(to.x - from.x), Math.abs(to.y - from.y), 1);
    for (let i = 0; i <= far; i++) {
      this.#dab(Math.round(from.x + ((to.x - from.x) * i) / far), Math.round(from.y + ((to.y - from.y) * i) / far));
    }
    this.#at = to;
    this.refresh();
  }

  #dab(x0, y0) {
    const { kind, colour, size } = this.#tool();
    const { width, height, channels } = this.#shape;
    for (let i = 0; i < size * size; i++) {
      const [x, y] = [x0 - (size >> 1) + (i % size), y0 - (size >> 1) + Math.floor(i / size)];
      if (x < 0 || y < 0 || x >= width || y >= height) continue;
      if (kind === "paint") this.pixels.set(colour, (y * width + x) * channels);
      else this.mask[y * width + x] = kind === "hole" ? 255 : 0;
    }
  }

  #key(event) {
    if (!this.#shape || event.ctrlKey || event.metaKey || event.altKey) return;
    const move = ARROWS[event.key];
    if (!move && event.key !== " ") return;
    event.preventDefault();
    const clamp = (value, size) => Math.min(Math.max(value, 0), size - 1);
    if (move) {
      this.#at = { x: clamp(this.#at.x + move[0], this.#shape.width), y: clamp(this.#at.y + move[1], this.#shape.height) };
      this.#said(`Row ${this.#at.y + 1}, column ${this.#at.x + 1}`);
    }
    this.#showCursor();
    if (!move || event.shiftKey) this.#stroke(this.#at, this.#at);
  }

  #showCursor() {
    const { size } = this.#tool();
    const { width, height } = this.#shape;
    const percent = (value, of) => `${(100 * value) / of}%`;
    Object.assign(this.#cursor.style, {
      left: percent(this.#at.x - (size >> 1), width),
      top: percent(this.#at.y - (size >> 1), height),
      width: percent(size, width),
      height: percent(size, height),
    });
    this.#cursor.hidden = false;
  }
}
