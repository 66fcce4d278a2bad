// The history of a library's tags: what was written, with undo.

import { get } from "./api.js";
import { announce, h } from "./dom.js";
import { problem } from "./frame.js";
import { ROOT, again, counted, result, run, stateWord } from "./job.js";

// The plans that have been applied.
export class Past {
  constructor(signal) {
    this.signal = signal;
    this.onchange = () => {}; // of files
    this.list = h("ul", {});
    this.done = h("div", { tabindex: -1 });
    this.element = h(
      "section",
      { class: "history", hidden: true },
      h("h2", {}, "History"),
      this.done,
      this.list,
    );
  }

  async load() {
    try {
      const plans = await get(`${ROOT}/history`, this.signal);
      this.element.hidden = !plans.length;
      this.list.replaceChildren(...plans.map((plan) => this.entry(plan)));
    } catch (error) {
      if (this.signal.aborted) return;
      this.element.hidden = false;
      this.list.replaceChildren(problem(error));
    }
  }

  entry({ number, begun, folder, counts }) {
    const when = new Date(begun).toLocaleString(undefined, {
      dateStyle: "medium",
      timeStyle: "short",
    });
    const button = (what, words) =>
      h(
        "button",
        {
          type: "button",
          class: "button small",
          "aria-label": `${words} plan ${number}`,
          onclick: () => this.resume(number, what, this.done),
        },
        words,
      );
    const changes = h("ul", { class: "changes" });
    const details = h("details", {}, h("summary", {}, "Files"), changes);
    details.addEventListener("toggle", async () => {
      if (!details.open || changes.children.length) return;
      const rows = await get(`${ROOT}/history/${number}`, this.signal).catch((error) => [error]);
      changes.replaceChildren(
        ...rows.map((row) =>
          row instanceof Error
            ? problem(row)
            : h(
                "li",
                {},
                h("span", {}, row.path),
                h(
                  "span",
                  { class: "note" },
                  `${row.old.join("; ") || "no genre"} → ${row.new.join("; ")}: ${stateWord(row.state)}${row.reason ? ` (${row.reason})` : ""}`,
                ),
              ),
        ),
      );
    });
    return h(
      "li",
      { class: "panel" },
      h(
        "div",
        { class: "history-head" },
        h("strong", {}, when),
        h(
          "span",
          { class: "note" },
          [counted(counts), folder !== "." && folder].filter(Boolean).join(" in "),
        ),
        (counts.waiting || counts.ready) && button("resume", "Resume"),
        (counts.done || counts.ready) && button("undo", "Undo"),
      ),
      details,
    );
  }

  async resume(number, what, place) {
    const words = what === "undo" ? "Restoring the files" : "Writing";
    const state = await run(words, `${ROOT}/history/${number}/${what}`, {}, place, this.signal);
    if (this.signal.aborted) return;
    if (state?.answer) {
      place.replaceChildren(result(state.answer, what === "undo" && again().firstChild));
      place.focus({ preventScroll: true }); // the button has gone
      announce(counted(state.answer.counts));
    }
    this.onchange();
    this.load();
  }
}
