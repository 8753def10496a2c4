// Chromium without a window, through the DevTools protocol over a pipe.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

const PATIENCE = 30_000;

const KEYS = {
  Tab: 9, Enter: 13, " ": 32, ArrowLeft: 37, ArrowUp: 38, ArrowRight: 39, ArrowDown: 40,
};

export class Browser {
  #process;
  #profile = mkdtempSync(join(tmpdir(), "fewstep-chromium-"));
  #count = 0;
  #waiting = new Map();
  #pages = new Map();

  constructor(program = "chromium") {
    const options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
      "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe", `--user-data-dir=${this.#profile}`, "about:blank"];
    this.#process = spawn(program, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    let rest = "";
    this.#process.stdio[4].setEncoding("utf8").on("data", (chunk) => {
      const messages = (rest + chunk).split("\0");
      rest = messages.pop();
      messages.forEach((message) => this.#hear(JSON.parse(message)));
    });
    // Nothing of what it was asked will be answered then.
    this.#process.on("exit", (code) => this.#waiting.forEach(({ reject }) => reject(new Error(`chromium ended: ${code}`))));
  }

  #hear({ id, sessionId, method, params, result, error }) {
    if (id === undefined) {
      this.#pages.get(sessionId)?.hear(method, params);
      return;
    }
    const { resolve, reject } = this.#waiting.get(id);
    this.#waiting.delete(id);
    error ? reject(new Error(error.message)) : resolve(result);
  }

  send(method, params = {}, sessionId = undefined) {
    return new Promise((resolve, reject) => {
      const id = ++this.#count;
      this.#waiting.set(id, { resolve, reject });
      this.#process.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  async page(address, media = {}) {
    const { targetId } = await this.send("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.send("Target.attachToTarget", { targetId, flatten: true });
    const page = new Page((method, params) => this.send(method, params, sessionId), () => this.send("Target.closeTarget", { targetId }));
    this.#pages.set(sessionId, page);
    for (const domain of ["Page", "Runtime", "Log", "Accessibility"]) await page.send(`${domain}.enable`);
    await page.size(media.width ?? 1280, media.height ?? 900, media.phone ?? false);
    await page.send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: media.scheme ?? "light" }] });
    await page.send("Page.navigate", { url: address });
    return page;
  }

  async close() {
    const ended = new Promise((resolve) => this.#process.on("exit", resolve));
    await this.send("Browser.close").catch(() => {});
    await ended;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

class Page {
  // Errors of the console.
  errors = [];

  constructor(send, close) {
    Object.assign(this, { send, close });
  }

  hear(method, params) {
    if (method === "Runtime.exceptionThrown") this.errors.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    if (method === "Runtime.consoleAPICalled" && ["error", "assert"].includes(params.type)) {
      this.errors.push(params.args.map((a) => a.value ?? a.description).join(" "));
    }
    if (method === "Log.entryAdded" && params.entry.level === "error") this.errors.push(`${params.entry.text} ${params.entry.url ?? ""}`);
  }

  size(width, height, mobile) {
    return this.send("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: mobile ? 2 : 1, mobile });
  }

  // The value of a function called in the page with these arguments.
  async call(what, ...args) {
    const expression = `(${what})(...${JSON.stringify(args)})`;
    const { result, exceptionDetails } = await this.send("Runtime.evaluate", { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  // Asks until the answer is right; says the last one otherwise.
  async until(what, right, ...args) {
    const end = Date.now() + PATIENCE;
    for (;;) {
      let found;
      try {
        found = await this.call(what, ...args);
      } catch (error) {
        // While a page comes up there is nothing to ask yet.
        found = String(error);
      }
      if (right(found)) return found;
      if (Date.now() > end) throw new Error(`waited in vain: ${what} gives ${JSON.stringify(found)}; ${this.errors.join("; ")}`);
      await sleep(20);
    }
  }

  // Sets a control as a hand would: value and event.
  set(id, value) {
    return this.call((id, value) => {
      const control = document.getElementById(id);
      control.value = value;
      if (control.value !== String(value)) throw new Error(`#${id} takes ${control.value} for ${value}`);
      for (const type of ["input", "change"]) control.dispatchEvent(new Event(type, { bubbles: true }));
    }, id, value);
  }

  click(selector) {
    return this.call((selector) => document.querySelector(selector).click(), selector);
  }

  async key(key, modifiers = 0) {
    const common = { key, code: key === " " ? "Space" : key, windowsVirtualKeyCode: KEYS[key], modifiers };
    await this.send("Input.dispatchKeyEvent", { type: key === " " ? "keyDown" : "rawKeyDown", ...common, ...(key === " " ? { text: " " } : {}) });
    await this.send("Input.dispatchKeyEvent", { type: "keyUp", ...common });
  }

  // Middle of a pixel of a canvas, scrolled into view, in CSS pixels.
  pixel(id, x, y) {
    return this.call((id, x, y) => {
      const canvas = document.getElementById(id);
      canvas.scrollIntoView({ block: "center" });
      const box = canvas.getBoundingClientRect();
      return { x: box.left + ((x + 0.5) * box.width) / canvas.width, y: box.top + ((y + 0.5) * box.height) / canvas.height };
    }, id, x, y);
  }

  async drag(from, to) {
    const mouse = (type, at, buttons) => this.send("Input.dispatchMouseEvent", { type, ...at, button: "left", buttons, clickCount: 1 });
    await mouse("mousePressed", from, 1);
    await mouse("mouseMoved", to, 1);
    await mouse("mouseReleased", to, 0);
  }

  async drop(...files) {
    const data = { items: [], files, dragOperationsMask: 1 };
    for (const type of ["dragEnter", "dragOver", "drop"]) await this.send("Input.dispatchDragEvent", { type, x: 100, y: 100, data });
  }

  async screenshot(whole = true) {
    await this.call(() => scrollTo(0, 0));
    const { cssContentSize: size } = await this.send("Page.getLayoutMetrics");
    const clip = { x: 0, y: 0, width: size.width, height: size.height, scale: 1 };
    const { data } = await this.send("Page.captureScreenshot", whole ? { clip, captureBeyondViewport: true } : {});
    return Buffer.from(data, "base64");
  }
}
