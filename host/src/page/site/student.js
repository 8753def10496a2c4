// The student behind the worker.

export const MAX_SEED = (1n << 64n) - 1n;

export class Student {
  #worker = new Worker("worker.js");
  #waiting = new Map();
  #count = 0;

  constructor() {
    this.#worker.onmessage = ({ data }) => {
      const { resolve, reject } = this.#waiting.get(data.id);
      this.#waiting.delete(data.id);
      data.refused === undefined ? resolve(data) : reject(new Error(data.refused));
    };
  }

  #ask(message, moved = []) {
    return new Promise((resolve, reject) => {
      this.#waiting.set(++this.#count, { resolve, reject });
      this.#worker.postMessage({ id: this.#count, ...message }, moved);
    });
  }

  // Opens a file, its bytes (which move to the worker) or its address; resolves to { description, fetched }. A file that
  // is refused leaves the student before.
  open(file) {
    return this.#ask({ open: file }, typeof file === "string" ? [] : [file]);
  }

  // Each resolves to { pixels, milliseconds }. A request is { seed, class, w, steps }.
  sample(request) {
    return this.#draw("sample", request, []);
  }
  edit(request, picture, start) {
    return this.#draw("edit", request, [start], picture);
  }
  inpaint(request, picture, mask, start, passes) {
    return this.#draw("inpaint", request, [start, passes], picture, mask);
  }
  morph(request, to, at) {
    return this.#draw("morph", request, [to.seed, to.class, at]);
  }

  #draw(name, request, more, picture, mask) {
    const numbers = [request.seed, request.class, request.w, request.steps, ...more];
    return this.#ask({ draw: name, numbers, picture, mask });
  }
}

// Work that is wanted, done one piece at a time, the most urgent first: what is wanted again meanwhile is done once more,
// and what waits for others is done when the hand rests.
export class Turns {
  #work;
  #failed;
  #wanted = new Set();
  #running = false;

  // `work`: an object of asynchronous functions, the most urgent first. Faults go to `failed`.
  constructor(work, failed) {
    [this.#work, this.#failed] = [work, failed];
  }

  want(...names) {
    names.forEach((name) => this.#wanted.add(name));
    if (!this.#running) this.#run();
  }

  async #run() {
    this.#running = true;
    while (this.#wanted.size) {
      const name = Object.keys(this.#work).find((name) => this.#wanted.has(name));
      this.#wanted.delete(name);
      await this.#work[name]().catch(this.#failed);
    }
    this.#running = false;
  }
}
