// Jobs of the review: start one, follow it with a bar, and show what came of it.

import { follow, post, remove } from "./api.js";
import { h, icon } from "./dom.js";
import { failure, problem } from "./frame.js";
import { plural } from "./genres.js";

/** Where the library's routes begin. */
export const ROOT = "/api/library";
const PLANS = "#/review";
const COUNTS = { done: "written", undone: "undone", waiting: "not reached", ready: "not finished" };

/** Make the link to the options of a plan. */
export function again() {
  return h("p", {}, h("a", { class: "button small", href: PLANS }, "Make a new plan"));
}

/**
 * Start a job and follow it to its end, with a bar in `place`.
 * Gives its last state; null if the server refused it. Errors are shown in `place`.
 */
export async function run(words, path, json, place, signal) {
  const bar = h("div", { class: "done" });
  const count = h("span", { class: "note" });
  let id = null;
  let stopped = false;
  const stopIt = () => {
    stopped = true;
    cancel.disabled = true;
    if (id) remove(`${ROOT}/jobs/${id}`).catch(() => {}); // it may have ended by itself
  };
  const cancel = h(
    "button",
    { type: "button", class: "button", onclick: stopIt },
    icon("close"),
    "Stop",
  );
  const progress = h(
    "div",
    { class: "progress endless", role: "progressbar", "aria-label": words },
    bar,
  );
  const panel = h("div", { class: "panel job" }, h("p", {}, words, " ", count), progress, cancel);
  place.replaceChildren(panel);
  const onstate = ({ progress: part }) => {
    if (!part?.total) return;
    progress.classList.remove("endless");
    bar.style.setProperty("width", `${(100 * part.done) / part.total}%`);
    progress.setAttribute("aria-valuenow", Math.round((100 * part.done) / part.total));
    count.textContent = `${part.done} of ${part.total}`;
  };
  try {
    ({ id } = await post(path, json, signal));
    if (stopped) stopIt();
    const state = await follow(`${ROOT}/jobs/${id}`, onstate, signal);
    panel.remove();
    if (state.state === "failed") place.append(failure(state.error));
    if (state.state === "cancelled") place.append(cancelled());
    return state;
  } catch (error) {
    panel.remove();
    if (signal.aborted) return null;
    const isGone = stopped && error.status === 404; // a stopped job is forgotten
    place.append(isGone ? cancelled() : problem(error));
    return isGone ? { state: "cancelled" } : null;
  }
}

function cancelled() {
  return h(
    "p",
    { class: "panel", role: "status" },
    "Stopped. Each file is the old one or the new one.",
  );
}

/** Write the state of a change in words. */
export function stateWord(state) {
  return COUNTS[state] ?? state;
}

/** Write numbers of files by state: "12 files written, 1 skipped". */
export function counted(counts) {
  return (
    Object.entries(counts)
      .map(([state, count], i) => `${i ? count : plural(count, "file")} ${stateWord(state)}`)
      .join(", ") || "nothing to do"
  );
}

/** Show the result of a job; `more` stands beside it. */
export function result({ counts, left }, ...more) {
  return h(
    "div",
    { class: "panel result" },
    h("p", {}, h("strong", {}, `${counted(counts)}.`), " ", more),
    left.length > 0 &&
      h(
        "ul",
        { class: "note" },
        left.map(({ file, reason }) => h("li", {}, `${file}: ${reason}`)),
      ),
  );
}
