// Files on their way to the server, and several of them together.

import { Failure, follow, remove, upload } from "./api.js";
import { percent } from "./genres.js";

const FOLLOWED = 2; // jobs at a time: browsers open six connections to a server, in all tabs
const TRIES = 30; // of a file, while the server is full
const ENDED = ["done", "failed", "cancelled"];

/**
 * Send a file; gives `{id}`. `onstate(state, text, part)` receives how far it is.
 * While the server is full it is sent again, as late as the server asks.
 */
export async function send(file, config, onstate, signal) {
  const most = config.limits.megabytes;
  if (file.size > most * 1e6) {
    throw new Failure(413, {
      title: "The file is too large",
      remedy: `This server takes up to ${most} MB. Send a part of it, or run genrescope classify.`,
    });
  }
  const progress = (part) => {
    if (part < 1) onstate("Uploading", percent(part), part);
    else onstate("Uploading", "It has arrived and is being checked", undefined);
  };
  for (let tries = 1; ; tries++) {
    progress(0);
    try {
      return await upload(file, progress, signal);
    } catch (error) {
      if (error.status !== 503 || tries === TRIES || signal?.aborted) throw error;
      onstate("Waiting", `Many people are using this server; next try in ${error.again || 5} s`);
      await pause(error.again || 5, signal);
    }
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, 1000 * seconds);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("", "AbortError"));
    });
  });
}

/**
 * Several files. `items` have `name`, `id` once they are sent, and `state`, `place`, `part`, `error`
 * and `answer`, as far as there are.
 */
export class Batch {
  #stop = new AbortController(); // of the uploads
  #onchange = () => {};
  #followed = new Set();
  #signal = null;

  constructor(items) {
    this.items = items.map((item) => ({ name: "", state: "waiting", ...item }));
    this.left = 0; // files that were too many
  }

  get ids() {
    return this.items.filter(({ state }) => state !== "cancelled").flatMap(({ id }) => id ?? []);
  }

  get hash() {
    return `#/answers/${this.ids.join(",")}`;
  }

  get running() {
    return this.items.some((item) => !ENDED.includes(item.state));
  }

  /** Upload the files, one after the other. */
  async send(config) {
    for (const item of this.items) {
      if (item.state === "cancelled") continue;
      const onstate = (state, text, part) => this.#set(item, { state: "sending", text, part });
      try {
        const { id } = await send(item.file, config, onstate, this.#stop.signal);
        this.#set(item, { id, state: "waiting", file: null });
      } catch (error) {
        this.#set(
          item,
          this.#stop.signal.aborted ? { state: "cancelled" } : { state: "failed", error },
        );
      }
    }
  }

  /** Follow the answers until `signal`; `onchange` is called whenever an item has changed. */
  follow(onchange, signal) {
    this.#onchange = onchange;
    this.#signal = signal;
    this.#followed = new Set();
    signal.addEventListener("abort", () => (this.#onchange = () => {}));
    this.#pump();
  }

  /** Cancel what has not ended. */
  cancel() {
    this.#stop.abort();
    for (const item of this.items.filter(({ state }) => !ENDED.includes(state))) {
      if (item.id) remove(`/api/answers/${item.id}`).catch(() => {}); // it may just have ended
      this.#set(item, { state: "cancelled" });
    }
  }

  #set(item, change) {
    Object.assign(item, change);
    this.#onchange();
    this.#pump();
  }

  #pump() {
    const signal = this.#signal;
    if (!signal || signal.aborted) return;
    for (const item of this.items) {
      if (this.#followed.size >= FOLLOWED) return;
      if (item.id && !ENDED.includes(item.state) && !this.#followed.has(item)) {
        this.#followed.add(item);
        this.#track(item, signal);
      }
    }
  }

  async #track(item, signal) {
    let end;
    try {
      const path = `/api/answers/${encodeURIComponent(item.id)}`;
      end = await follow(path, (state) => Object.assign(item, state) && this.#onchange(), signal);
    } catch (error) {
      if (signal.aborted) return;
      end = { state: "failed", error };
    }
    this.#followed.delete(item);
    if (item.state !== "cancelled") this.#set(item, end);
    else this.#pump();
  }
}
