// Review: the changes of a plan, one by one; apply them, and undo them from the history.

import { follow, get, post, remove } from "./api.js";
import { deck, markPlaying, trackButton } from "./deck.js";
import { announce, h, icon } from "./dom.js";
import { percent } from "./genres.js";
import { problem, styled } from "./library.js";

const PAGE = 200; // rows that are added at a time
const ROOT = "/api/library";
const KNOWN = "action path old new confidence reason n track state why".split(" ");
const OPTIONS = {
  existing: ["Files that have a genre", { skip: "leave them", add: "add to it", replace: "replace it" }],
  min_confidence: ["Minimum confidence"],
  min_second: ["Minimum of a second genre"],
  max_genres: ["Genres per file, at most"],
  map_existing: ["Rename genres that files have"],
  album: ["Tracks of an album", { agree: "one genre where they agree", vote: "one genre always", off: "each its own" }],
  from_tags: ["Further genres by the tagger"],
  break_hard_links: ["Files with other names (hard links)"],
};
const FILTERS = {
  all: ["All", () => true],
  open: ["To decide", (row) => !row.decision && row.state !== "written"],
  yes: ["Accepted", (row) => row.decision === "yes"],
  no: ["Rejected", (row) => row.decision === "no"],
};
const STATES = { written: "Written", skipped: "Skipped", failed: "Failed", waiting: "Being written" };
const COUNTS = { done: "written", undone: "undone", waiting: "not reached", ready: "not finished" };

let leave = () => {};

export function hide() {
  leave();
}

export async function show(element, config, rest) {
  const stop = new AbortController();
  document.title = "Review · genrescope";
  styled(element);
  const place = h("div", { class: "review-place" });
  const past = new History(stop.signal);
  const view = { place, past, signal: stop.signal, release: () => {} };
  leave = () => {
    stop.abort();
    view.release();
  };
  element.append(
    h("h1", {}, "Review"),
    h("p", { class: "lead" }, "Genres that would be written into your files. Nothing is changed until you apply it, and it can be undone."),
    place,
    past.element,
  );
  past.load();
  try {
    if (rest) await openPlan(view, decodeURIComponent(rest));
    else await showForm(view);
  } catch (error) {
    if (stop.signal.aborted) return;
    place.replaceChildren(problem(error), again());
  }
}

function again() {
  return h("p", {}, h("a", { class: "button small", href: "#/review" }, "Make a new plan"));
}

// The options of a plan, as the server describes them.
async function showForm({ place, signal }) {
  const { options } = await get(`${ROOT}/plan`, signal);
  const fields = Object.entries(options.properties).map(([name, about]) => field(name, about, options.$defs));
  const form = h(
    "form",
    { class: "panel plan-form" },
    fields.map(({ element }) => element),
    h("button", { class: "button primary" }, "Make a plan"),
  );
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const values = Object.fromEntries(fields.map(({ name, value }) => [name, value()]));
    const job = await run("Reading the library's files", `${ROOT}/plan`, values, place, signal);
    if (job?.answer) {
      location.hash = `#/review/${job.answer.plan}`;
    } else if (!signal.aborted) place.append(form);
  });
  place.replaceChildren(form);
}

function field(name, about, kinds) {
  const [label, words = {}] = OPTIONS[name] ?? [name.replaceAll("_", " ")];
  const kind = about.$ref ? kinds[about.$ref.split("/").at(-1)] : about;
  const id = `option-${name}`;
  let input, value;
  if (kind.enum) {
    input = h("select", { id, class: "field" }, kind.enum.map((one) => h("option", { value: one }, words[one] ?? one)));
    input.value = about.default;
    value = () => input.value;
  } else if (kind.type === "boolean") {
    input = h("input", { id, type: "checkbox" });
    input.checked = about.default;
    value = () => input.checked;
  } else {
    const step = kind.type === "integer" ? 1 : 0.05;
    input = h("input", { id, class: "field", type: "number", min: kind.type === "integer" ? 1 : 0, step, required: true });
    if (kind.type === "number") input.max = 1;
    input.value = about.default;
    value = () => Number(input.value);
  }
  return { name, value, element: h("div", { class: "option" }, h("label", { for: id }, label), input) };
}

/**
 * Start a job and follow it to its end, with a bar in `place`.
 * Gives its last state; null if the server refused it. Errors are shown in `place`.
 */
async function run(words, path, json, place, signal) {
  const bar = h("div", { class: "done" });
  const count = h("span", { class: "note" });
  let id = null;
  let stopped = false;
  const stopIt = () => {
    stopped = true;
    cancel.disabled = true;
    if (id) remove(`${ROOT}/jobs/${id}`).catch(() => {}); // it may have ended by itself
  };
  const cancel = h("button", { type: "button", class: "button", onclick: stopIt }, icon("close"), "Stop");
  const progress = h("div", { class: "progress endless", role: "progressbar", "aria-label": words }, bar);
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
  return h("p", { class: "panel", role: "status" }, "Stopped. Each file is the old one or the new one.");
}

function failure({ title, remedy, detail }) {
  return h(
    "div",
    { class: "panel problem", role: "alert" },
    h("p", {}, h("strong", {}, title), " ", remedy),
    detail && h("p", { class: "note" }, detail),
  );
}

async function openPlan(view, id) {
  const [{ genres }, plan] = await Promise.all([
    get(`${ROOT}/plan`, view.signal),
    get(`${ROOT}/plans/${encodeURIComponent(id)}`, view.signal),
  ]);
  const sheet = new Sheet(view, plan, genres);
  view.release = () => sheet.player.stop();
  view.place.replaceChildren(sheet.element, sheet.player.element);
  sheet.update();
}

// The rows of a plan, and what was decided about them.
class Sheet {
  constructor({ place, past, signal }, plan, genres) {
    Object.assign(this, { place, past, signal, id: plan.id, counts: plan.counts, plan });
    const kept = JSON.parse(sessionStorage.getItem(`plan ${plan.id}`) ?? "{}");
    this.rows = plan.rows.map((row) => ({ ...row, decision: null, genres: row.new, ...kept[row.n] }));
    this.evidence = Object.keys(plan.rows[0] ?? {}).filter((name) => !KNOWN.includes(name));
    this.current = null;
    this.filter = "all";
    this.shown = [];
    this.elements = new Map();
    this.player = deck(
      (track) => this.rows.find((row) => row.track === track)?.path.split("/").at(-1) ?? "",
      () => null,
      (track) => markPlaying(this.list, track),
    );
    this.names = h("datalist", { id: "genre-names" }, genres.map((name) => h("option", { value: name })));
    this.list = h("div", { class: "rows" });
    this.list.addEventListener("keydown", (event) => this.press(event));
    this.list.addEventListener("focusin", (event) => {
      const n = event.target.closest("[data-n]")?.dataset.n;
      if (n !== undefined) this.mark(this.rows.find((row) => row.n === Number(n)));
    });
    this.more = h("button", { type: "button", class: "button", onclick: () => this.addRows() }, `Show ${PAGE} more`);
    this.summary = h("p", { class: "found", role: "status" });
    this.done = h("div", { class: "job-place" });
    this.element = h("div", { class: "sheet" }, this.head(), this.names, this.list, this.more, this.foot());
  }

  head() {
    const left = Object.entries(this.counts).filter(([reason]) => !["write", "review"].includes(reason));
    const total = left.reduce((sum, [, count]) => sum + count, 0);
    this.tabs = Object.entries(FILTERS).map(([name, [words]]) => {
      const button = h("button", { type: "button", class: "button small", "aria-pressed": String(name === this.filter) }, words);
      button.addEventListener("click", () => {
        this.filter = name;
        this.tabs.forEach((tab) => tab.setAttribute("aria-pressed", tab === button));
        this.update();
      });
      return button;
    });
    const rest = (decision, words) =>
      h("button", { type: "button", class: "button small", onclick: () => this.decide(this.undecided(), decision) }, words);
    return h(
      "div",
      { class: "sheet-head" },
      h("h2", {}, this.plan.summary),
      this.plan.note && h("p", { class: "note problem" }, this.plan.note),
      this.counts.review > 0 && h("p", {}, `${this.counts.review} more to be reviewed: what they sound like contradicts their tags.`),
      total > 0 &&
        h(
          "details",
          { class: "note", open: !this.rows.length },
          h("summary", {}, `${total} files are left alone`),
          h("ul", {}, left.map(([reason, count]) => h("li", {}, `${count}: ${reason}`))),
        ),
      h("div", { class: "actions" }, this.tabs), h("div", { class: "actions" }, rest("yes", "Accept the rest"), rest("no", "Reject the rest"), h("a", { class: "button small", href: `${ROOT}/plans/${this.id}/plan.csv`, download: "plan.csv" }, icon("download"), "Plan CSV"), again().firstChild),
      this.rows.length > 0 &&
        h("p", { class: "note keys" }, "Keys: ", [["j", "next"], ["k", "previous"], ["a", "accept"], ["r", "reject"], ["e", "edit"], ["l", "all like this"], ["p", "play"]].map(([key, words]) => h("span", {}, h("kbd", {}, key), words))),
    );
  }

  foot() {
    this.apply = h("button", { type: "button", class: "button primary", onclick: () => this.write() });
    this.keep = h("input", { type: "checkbox", id: "keep-time" });
    return h(
      "div",
      { class: "sheet-foot" },
      this.done,
      h(
        "div",
        { class: "sheet-bar" },
        this.summary,
        h("label", { class: "note" }, this.keep, " Keep the files' time"),
        this.apply,
      ),
    );
  }

  // Those that the plan would write: a row to be reviewed needs a decision of its own.
  undecided() {
    return this.rows.filter((row) => !row.decision && row.state !== "written" && row.action === "write");
  }

  update() {
    const [, fits] = FILTERS[this.filter];
    this.shown = this.rows.filter(fits);
    this.elements.clear();
    this.list.replaceChildren();
    this.last = null;
    this.added = 0;
    if (!this.shown.length) {
      const words = this.rows.length ? "No change of this kind." : "There is nothing to write: no file would get another genre.";
      this.list.append(h("p", { class: "note panel" }, words));
    }
    this.addRows();
    this.tally();
  }

  addRows() {
    const next = this.shown.slice(this.added, this.added + PAGE);
    for (const row of next) {
      const folder = row.path.split("/").slice(0, -1).join("/");
      if (this.last?.folder !== folder) this.last = this.album(folder);
      const element = h("li", { class: "row", "data-n": row.n, tabindex: -1 });
      this.elements.set(row.n, element);
      this.draw(row);
      this.last.list.append(element);
    }
    this.added += next.length;
    this.more.hidden = this.added >= this.shown.length;
    const current = this.elements.get(this.current?.n) ?? this.elements.values().next().value;
    if (current) current.tabIndex = 0;
  }

  album(folder) {
    const list = h("ul", {});
    const own = () => this.rows.filter((row) => row.path.slice(0, row.path.lastIndexOf("/") + 1) === (folder && `${folder}/`) && row.state !== "written");
    const all = (decision, words) =>
      h("button", { type: "button", class: "button small", "aria-label": `${words} ${folder || "these"}`, onclick: () => this.decide(own(), decision) }, words);
    this.list.append(
      h(
        "section",
        { class: "album", "aria-label": folder || "Files in no folder" },
        h("div", { class: "album-head" }, h("h3", {}, folder || "In no folder"), all("yes", "Accept all"), all("no", "Reject all")),
        list,
      ),
    );
    return { folder, list };
  }

  // What a row shows now.
  draw(row) {
    const element = this.elements.get(row.n);
    if (!element) return;
    const file = row.path.split("/").at(-1);
    const written = row.state === "written";
    const like = this.like(row).length;
    const button = (key, words, name, press, pressed) =>
      h("button", { type: "button", class: "button small", "aria-pressed": pressed === undefined ? null : String(pressed), "aria-label": `${words} ${file}`, disabled: written, title: `${words} (${key})`, onclick: press }, name);
    const decide = (decision) => () => this.decide([row], row.decision === decision ? null : decision);
    element.className = `row ${row.decision ?? ""} ${row.state ?? ""}`;
    const had = element.contains(document.activeElement) && element !== document.activeElement;
    element.replaceChildren(
      row.track === null ? h("span", {}) : trackButton(row.track, file, (track) => this.player.press(track)),
      h(
        "div",
        { class: "row-words" },
        h("span", { class: "row-file" }, file),
        h(
          "span",
          { class: "row-change" },
          h("span", { class: "old" }, row.old.join("; ") || "no genre"),
          h("span", { class: "arrow" }, h("span", { class: "hidden" }, "becomes"), h("span", { "aria-hidden": "true" }, "→")),
          h("strong", { class: "new" }, row.genres.join("; ") || "?"),
          row.confidence !== null && row.genres === row.new && h("span", { class: "share" }, percent(row.confidence)),
          row.action === "review" && h("span", { class: "chip unsure" }, "contradicts the file"),
        ),
        h("span", { class: "note evidence" }, this.reasons(row)),
        row.state && h("span", { class: "row-state" }, STATES[row.state] ?? row.state, row.why && `: ${row.why}`),
      ),
      h(
        "div",
        { class: "row-buttons" },
        button("a", "Accept", "Accept", decide("yes"), row.decision === "yes"),
        button("r", "Reject", "Reject", decide("no"), row.decision === "no"),
        button("e", "Edit", "Edit", () => this.edit(row)),
        like > 1 && button("l", `All ${like} like this:`, `All ${like} like this`, () => this.decideLike(row)),
      ),
    );
    if (had) element.focus({ preventScroll: true });
  }

  reasons(row) {
    const more = this.evidence.filter((name) => row[name]?.length).map((name) => `${name}: ${[row[name]].flat().join(", ")}`);
    return [row.reason, ...more].filter(Boolean).join(" · ");
  }

  like(row) {
    const key = JSON.stringify([row.old, row.new]);
    return this.rows.filter((one) => one.state !== "written" && JSON.stringify([one.old, one.new]) === key);
  }

  /** Decide all rows with the same change as this one is decided; one that is open is accepted. */
  decideLike(row) {
    const rows = this.like(row);
    if (row.decision !== "no") for (const one of rows) one.genres = row.genres;
    this.decide(rows, row.decision ?? "yes");
  }

  decide(rows, decision) {
    for (const row of rows) {
      if (row.state === "written" || (decision === "yes" && !row.genres.length)) continue;
      row.decision = decision;
      this.draw(row);
    }
    const words = { yes: "accepted", no: "rejected" }[decision] ?? "open again";
    announce(rows.length === 1 ? `${rows[0].path.split("/").at(-1)} ${words}` : `${rows.length} ${words}`);
    this.tally();
  }

  edit(row) {
    const element = this.elements.get(row.n);
    if (row.state === "written" || element.querySelector("form")) return;
    const input = h("input", { class: "field", list: "genre-names", "aria-label": `Genres of ${row.path.split("/").at(-1)}, several with ;` });
    input.value = row.genres.join("; ");
    const close = (save) => {
      const names = input.value.split(";").map((name) => name.trim()).filter(Boolean);
      if (save && !names.length) return input.focus();
      if (save) row.genres = JSON.stringify(names) === JSON.stringify(row.new) ? row.new : names;
      form.remove();
      this.draw(row);
      if (save) this.decide([row], "yes");
      element.focus();
    };
    const form = h(
      "form",
      { class: "row-edit" },
      input,
      h("button", { class: "button small primary" }, "Save"),
      h("button", { type: "button", class: "button small", onclick: () => close(false) }, "Cancel"),
    );
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      close(true);
    });
    form.addEventListener("keydown", (event) => {
      event.stopPropagation();
      if (event.key === "Escape") close(false);
    });
    element.append(form);
    input.focus();
    input.select();
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "INPUT") return;
    const { current } = this;
    const keys = {
      j: () => this.go(1),
      ArrowDown: () => this.go(1),
      k: () => this.go(-1),
      ArrowUp: () => this.go(-1),
      a: () => current && this.decideAndGo("yes"),
      r: () => current && this.decideAndGo("no"),
      e: () => current && this.edit(current),
      l: () => current && this.decideLike(current),
      p: () => current?.track != null && this.player.press(current.track),
    };
    if (!Object.hasOwn(keys, event.key)) return;
    event.preventDefault();
    keys[event.key]();
  }

  decideAndGo(decision) {
    this.decide([this.current], decision);
    this.go(1);
  }

  go(by) {
    const i = this.shown.indexOf(this.current) + by;
    if (i >= this.added) this.addRows();
    const row = this.shown[Math.max(0, i)];
    this.elements.get(row?.n)?.focus();
  }

  mark(row) {
    if (row === this.current || !row) return;
    for (const one of [this.current, row]) {
      const element = this.elements.get(one?.n);
      if (!element) continue;
      element.tabIndex = one === row ? 0 : -1;
      element.classList.toggle("current", one === row);
    }
    this.current = row;
  }

  tally() {
    const accepted = this.rows.filter((row) => row.decision === "yes" && row.state !== "written");
    const open = this.rows.filter((row) => !row.decision && row.state !== "written").length;
    this.summary.textContent = `${accepted.length} accepted, ${open} to decide`;
    this.apply.textContent = `Write ${accepted.length} file${accepted.length === 1 ? "" : "s"}`;
    this.apply.disabled = !accepted.length;
    const kept = this.rows
      .filter((row) => row.decision)
      .map(({ n, decision, genres }) => [n, { decision, genres }]);
    sessionStorage.setItem(`plan ${this.id}`, JSON.stringify(Object.fromEntries(kept)));
  }

  async write() {
    const accepted = this.rows.filter((row) => row.decision === "yes" && row.state !== "written");
    const rows = accepted.map((row) => ({ n: row.n, ...(row.genres !== row.new && { new: row.genres }) }));
    this.apply.disabled = true;
    const path = `${ROOT}/plans/${this.id}/apply`;
    const state = await run("Writing", path, { rows, preserve_mtime: this.keep.checked }, this.done, this.signal);
    if (this.signal.aborted) return;
    const { rows: now } = await get(`${ROOT}/plans/${this.id}`, this.signal);
    const states = new Map(now.map((row) => [row.n, row]));
    for (const row of this.rows) {
      Object.assign(row, { state: states.get(row.n).state, why: states.get(row.n).why });
      if (row.state === "written") row.decision = null;
      this.draw(row);
    }
    this.tally();
    if (state?.answer) {
      const undo = h("button", { type: "button", class: "button small", onclick: () => this.past.resume(state.answer.history, "undo", this.done) }, "Undo");
      this.done.replaceChildren(result(state.answer, undo));
      announce(counted(state.answer.counts));
    }
    this.past.load();
  }
}

function counted(counts) {
  return Object.entries(counts).map(([state, count]) => `${count} ${COUNTS[state] ?? state}`).join(", ") || "nothing to do";
}

function result({ counts, left }, ...more) {
  return h(
    "div",
    { class: "panel result" },
    h("p", {}, h("strong", {}, `${counted(counts)}.`), " ", more),
    left.length > 0 && h("ul", { class: "note" }, left.map(({ file, reason }) => h("li", {}, `${file}: ${reason}`))),
  );
}

// The plans that have been applied.
class History {
  constructor(signal) {
    this.signal = signal;
    this.list = h("ul", {});
    this.done = h("div", {});
    this.element = h("section", { class: "history", hidden: true }, h("h2", {}, "History"), this.done, this.list);
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
    const when = new Date(begun).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    const button = (what, words) =>
      h("button", { type: "button", class: "button small", "aria-label": `${words} plan ${number}`, onclick: () => this.resume(number, what, this.done) }, words);
    const changes = h("ul", { class: "changes" });
    const details = h("details", {}, h("summary", {}, "Files"), changes);
    details.addEventListener("toggle", async () => {
      if (!details.open || changes.children.length) return;
      const rows = await get(`${ROOT}/history/${number}`, this.signal).catch((error) => [error]);
      changes.replaceChildren(
        ...rows.map((row) =>
          row instanceof Error
            ? problem(row)
            : h("li", {}, h("span", {}, row.path), h("span", { class: "note" }, `${row.old.join("; ") || "no genre"} → ${row.new.join("; ")}: ${COUNTS[row.state] ?? row.state}${row.reason ? ` (${row.reason})` : ""}`)),
        ),
      );
    });
    return h(
      "li",
      { class: "panel" },
      h("div", { class: "history-head" }, h("strong", {}, when), h("span", { class: "note" }, [counted(counts), folder !== "." && folder].filter(Boolean).join(" in ")), (counts.waiting || counts.ready) && button("resume", "Resume"), (counts.done || counts.ready) && button("undo", "Undo")),
      details,
    );
  }

  async resume(number, what, place) {
    const words = what === "undo" ? "Restoring the files" : "Writing";
    const state = await run(words, `${ROOT}/history/${number}/${what}`, {}, place, this.signal);
    if (state?.answer) {
      place.replaceChildren(result(state.answer, what === "undo" && again().firstChild));
      announce(counted(state.answer.counts));
    }
    this.load();
  }
}
