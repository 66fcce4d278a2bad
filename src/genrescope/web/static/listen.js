// Listen: music comes in, its answer has the page; several files give a table.

import { answerOf, follow, remove } from "./api.js";
import { failed, heading, pending, show as answered, title, words } from "./answer.js";
import { Batch, send } from "./batch.js";
import { announce, h, icon } from "./dom.js";
import { inPercent, plural } from "./genres.js";
import { intake } from "./intake.js";
import { silence } from "./player.js";
import { table } from "./table.js";

const names = new Map(); // of files, by the id of their answer, until the server says it
let outgoing = null; // the file that `sending` sends
let batch = null; // the files of `several`

/** The start: where music goes in, and what comes out of it. */
export const start = view((element, config, _, open) => {
  document.title = "genrescope";
  const place = h("div", { class: "place" });
  if (config.example) {
    place.append(h("p", { class: "label" }, "An example"), answered(config.example, config, 2));
  }
  const press = async (name, words) => {
    try {
      const { id } = await answerOf({ sample: name });
      names.set(id, words);
      go(`#/answer/${id}`);
    } catch (error) {
      fail(place, words, error);
    }
  };
  const samples = config.samples.map(({ name, title }) =>
    h(
      "button",
      { type: "button", class: "button small", onclick: () => press(name, title) },
      title,
    ),
  );
  element.append(
    h("h1", { class: "hero" }, "What genre is this?"),
    h(
      "p",
      { class: "lead" },
      "Drop a song and see its genres over time, how certain they are, and what they rest on.",
    ),
    open.intake(),
    h("p", { class: "samples" }, h("span", {}, "No music at hand? Try a sample:"), samples),
    place,
    about(config),
  );
});

/** A file on its way to the server. */
export const sending = view(async (element, config, _, open) => {
  if (!outgoing) return go("#/"); // reloaded: the browser has it no more
  const file = outgoing;
  outgoing = null;
  document.title = "Uploading · genrescope";
  const cancel = () => {
    open.stop();
    go("#/");
  };
  const waiting = pending(file.name, cancel);
  const place = h("div", { class: "place" }, waiting.element);
  element.append(open.intake({ folded: true }), place);
  try {
    const { id } = await send(file, config, waiting.set, open.signal);
    if (open.signal.aborted) return remove(path(id)).catch(() => {}); // as it arrived
    names.set(id, file.name);
    go(`#/answer/${id}`, { replace: true });
  } catch (error) {
    if (!open.signal.aborted) fail(place, file.name, error);
  }
});

/** One answer, by its id. */
export const one = view(async (element, config, id, open) => {
  const back = batch?.ids.includes(id) ? { hash: batch.hash, words: "All files" } : null;
  const { place, waiting } = room(element, names.get(id) ?? "a file", back, open, id);
  try {
    await fill(place, waiting, config, id, open);
  } catch (error) {
    if (!open.signal.aborted) fail(place, names.get(id), gone(error, config));
  }
});

// An answer that the server does not know was most likely there once.
function gone(error, { limits }) {
  if (error.status !== 404) return error;
  const remedy = `Answers are deleted ${limits.keep_minutes} minutes after you last looked. Please send the file again.`;
  return { title: "This answer is no longer kept", remedy };
}

/** A track of the library: `number`, or `number/id` once there is an answer. */
export const track = view(async (element, config, rest, open) => {
  const [number, id] = rest.split("/");
  const back = { hash: "#/library", words: "Library" };
  const { place, waiting } = room(element, names.get(id) ?? "a track", back, open, id);
  try {
    if (id) return await fill(place, waiting, config, id, open);
    const job = await answerOf({ track: number }, open.signal);
    names.set(job.id, job.name);
    go(`#/track/${number}/${job.id}`, { replace: true });
  } catch (error) {
    if (open.signal.aborted) return;
    if (id && error.status === 404) go(`#/track/${number}`, { replace: true }); // not kept any more
    else fail(place, names.get(id), error);
  }
});

// Make the place of an answer; `back` is where it was asked for, unless that is the start.
function room(element, name, back, open, id) {
  const cancel = async () => {
    if (id) await remove(path(id)).catch(() => {}); // it may have ended by itself
    go(back?.hash ?? "#/");
  };
  document.title = "Analysing · genrescope";
  const waiting = pending(name, cancel);
  waiting.set("In the queue", "");
  const place = h("div", { class: "place" }, waiting.element);
  const link = back && h("a", { class: "back", href: back.hash }, icon("back"), back.words);
  element.append(open.intake({ folded: true }), ...(link ? [link] : []), place);
  return { place, waiting };
}

// Follow an answer to its end, and show it.
async function fill(place, waiting, config, id, open) {
  let begun = null;
  let timer = null;
  open.signal.addEventListener("abort", () => clearInterval(timer));
  const onstate = (state) => {
    waiting.rename(state.name);
    clearInterval(timer);
    if (state.state !== "running") return waiting.set(...words(state));
    begun ??= performance.now() - 1000 * state.running_s; // which a reload does not change
    const count = () => {
      const seconds = (performance.now() - begun) / 1000;
      waiting.set(...words(state, seconds));
      waiting.elapsed(seconds);
    };
    timer = setInterval(count, 1000);
    count();
  };
  try {
    const { state, name, error, answer } = await follow(path(id), onstate, open.signal);
    if (state === "done") {
      document.title = `${heading(answer)}: ${title(answer)} · genrescope`;
      swap(place, answered(answer, config));
      announce(inPercent(answer.sentence));
    } else if (state === "failed") fail(place, name, error);
    else go("#/");
  } finally {
    clearInterval(timer);
  }
}

function path(id) {
  return `/api/answers/${encodeURIComponent(id)}`;
}

/** Several answers, by their ids, as a table. */
export const several = view((element, config, rest, open) => {
  const ids = rest.split(",").filter(Boolean);
  // The address of a batch that was still being sent has the first of its ids.
  const known = batch !== null && ids.every((id) => batch.ids.includes(id));
  if (!known) batch = new Batch(ids.map((id) => ({ id })));
  if (!batch.items.length) return go("#/");
  document.title = `${plural(batch.items.length, "file")} · genrescope`;
  const { element: shown, draw } = table(batch, config);
  element.append(open.intake({ folded: true }), shown);
  batch.follow(() => {
    draw();
    if (location.hash !== batch.hash) history.replaceState(null, "", batch.hash);
  }, open.signal);
  draw();
});

// A view of this module; `open` has what ends when it is left.
function view(build) {
  let leave = () => {};
  return {
    show(element, config, rest) {
      const stop = new AbortController();
      const panels = [];
      const open = {
        signal: stop.signal,
        stop: () => stop.abort(),
        intake(options) {
          const panel = intake(config, (files, left) => take(files, left, config), options);
          panels.push(panel);
          return panel.element;
        },
      };
      leave = () => {
        stop.abort();
        for (const panel of panels) panel.release();
        silence();
      };
      build(element, config, rest, open);
    },
    hide: () => leave(),
  };
}

function take(files, left, config) {
  if (files.length === 1) {
    [outgoing] = files;
    go("#/sending");
  } else {
    const within = (file) => file.webkitRelativePath.replace(/^[^/]*\//, ""); // the folder
    batch = new Batch(files.map((file) => ({ file, name: file.name, path: within(file) })));
    batch.left = left;
    batch.send(config);
    go(batch.hash);
  }
}

// Show another view, or the present one anew.
function go(hash, { replace = false } = {}) {
  if (replace) location.replace(hash);
  else if (location.hash === hash) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = hash;
}

function fail(place, name, error) {
  document.title = `${name ?? "No answer"} · genrescope`;
  swap(place, failed(name, error));
}

// Put something in a place; who was at what stood there is not sent back to the start of the page.
function swap(place, element) {
  const held = place.contains(document.activeElement);
  place.replaceChildren(element);
  if (held) document.getElementById("main").focus({ preventScroll: true });
}

function about({ card }) {
  return (
    card?.summary &&
    h(
      "details",
      { class: "about" },
      h("summary", {}, "About the model"),
      h("p", {}, card.summary),
      card.license && h("p", { class: "note" }, `Licence: ${card.license}`),
    )
  );
}
