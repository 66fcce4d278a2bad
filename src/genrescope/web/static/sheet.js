// The rows of a plan, one by one: accept, reject, edit, and write what was accepted.

import { get } from "./api.js";
import { deck, markPlaying, trackButton } from "./deck.js";
import { announce, h, icon } from "./dom.js";
import { inPercent, percent, plural } from "./genres.js";
import { ROOT, again, counted, result, run } from "./job.js";

const PAGE = 200; // rows that are added at a time
const KEEP_MS = 300; // after the last decision
const KNOWN = "action path old new confidence reason n track state why".split(" ");
const FILTERS = {
  all: ["All", () => true],
  open: ["To decide", (row) => !row.decision && row.state !== "written"],
  yes: ["Accepted", (row) => row.decision === "yes"],
  no: ["Rejected", (row) => row.decision === "no"],
};
const STATES = {
  written: "Written",
  undone: "Undone",
  skipped: "Skipped",
  failed: "Failed",
  waiting: "Being written",
};

// The rows of a plan, and what was decided about them.
export class Sheet {
  constructor({ place, past, signal }, plan, genres) {
    Object.assign(this, { place, past, signal, id: plan.id, counts: plan.counts, plan });
    const kept = recall(plan.id);
    this.rows = plan.rows.map((row) => ({
      ...row,
      decision: null,
      genres: row.new,
      ...kept[row.n],
    }));
    this.likes = Map.groupBy(this.rows, ({ action, old, new: to }) =>
      JSON.stringify([action, old, to]),
    );
    this.known = new Set(genres.map((name) => name.toLowerCase()));
    past.onchange = () => this.refresh();
    this.evidence = Object.keys(plan.rows[0] ?? {}).filter((name) => !KNOWN.includes(name));
    this.current = null;
    this.filter = "all";
    this.shown = [];
    this.elements = new Map();
    this.player = deck(
      (track) =>
        this.rows
          .find((row) => row.track === track)
          ?.path.split("/")
          .at(-1) ?? "",
      () => null,
      (track) => markPlaying(this.list, track),
    );
    this.names = h(
      "datalist",
      { id: "genre-names" },
      genres.map((name) => h("option", { value: name })),
    );
    this.list = h("div", { class: "rows" });
    this.list.addEventListener("keydown", (event) => this.press(event));
    this.list.addEventListener("focusin", (event) => {
      const n = event.target.closest("[data-n]")?.dataset.n;
      if (n !== undefined) this.mark(this.rows.find((row) => row.n === Number(n)));
    });
    this.more = h(
      "button",
      { type: "button", class: "button", onclick: () => this.addRows() },
      `Show ${PAGE} more`,
    );
    this.summary = h("p", { class: "found", role: "status" });
    this.done = h("div", { class: "job-place", tabindex: -1 });
    this.leave = () => this.keepDecisions();
    window.addEventListener("pagehide", this.leave);
    this.element = h(
      "div",
      { class: "sheet" },
      this.head(),
      this.names,
      this.list,
      this.more,
      this.foot(),
    );
  }

  head() {
    const left = Object.entries(this.counts).filter(
      ([reason]) => !["write", "review"].includes(reason),
    );
    const any = this.rows.length > 0;
    const total = left.reduce((sum, [, count]) => sum + count, 0);
    this.tabs = Object.entries(FILTERS).map(([name, [words]]) => {
      const button = h(
        "button",
        { type: "button", class: "button small", "aria-pressed": String(name === this.filter) },
        words,
      );
      button.addEventListener("click", () => {
        this.filter = name;
        this.tabs.forEach((tab) => tab.setAttribute("aria-pressed", tab === button));
        this.update();
      });
      return button;
    });
    const rest = (decision, words) =>
      h(
        "button",
        {
          type: "button",
          class: "button small",
          onclick: () => this.decide(this.undecided(), decision),
        },
        words,
      );
    return h(
      "div",
      { class: "sheet-head" },
      h("h2", {}, this.plan.summary),
      this.plan.note && h("p", { class: "note problem" }, this.plan.note),
      this.counts.review > 0 &&
        h(
          "p",
          {},
          `${this.counts.review} more to be reviewed: what they sound like contradicts their tags.`,
        ),
      total > 0 &&
        h(
          "details",
          { class: "note", open: !any },
          h("summary", {}, `Left as they are: ${plural(total, "file")}`),
          h(
            "ul",
            {},
            left.map(([reason, count]) => h("li", {}, `${plural(count, "file")}: ${reason}`)),
          ),
        ),
      any && h("div", { class: "actions" }, this.tabs),
      h(
        "div",
        { class: "actions" },
        any && rest("yes", "Accept the rest"),
        any && rest("no", "Reject the rest"),
        h(
          "a",
          {
            class: "button small",
            href: `${ROOT}/plans/${this.id}/plan.csv`,
            download: "plan.csv",
          },
          icon("download"),
          "Plan CSV",
        ),
        again().firstChild,
      ),
      any &&
        h(
          "p",
          { class: "note keys" },
          "Keys: ",
          [
            ["j", "next"],
            ["k", "previous"],
            ["a", "accept"],
            ["r", "reject"],
            ["e", "edit"],
            ["l", "all like this"],
            ["p", "play"],
          ].map(([key, words]) => h("span", {}, h("kbd", {}, key), words)),
        ),
    );
  }

  foot() {
    this.apply = h("button", {
      type: "button",
      class: "button primary",
      onclick: () => this.write(),
    });
    this.keep = h("input", { type: "checkbox", id: "keep-time" });
    return h(
      "div",
      { class: "sheet-foot", hidden: !this.rows.length },
      this.done,
      h(
        "div",
        { class: "sheet-bar" },
        this.summary,
        h("label", { class: "note" }, this.keep, " Keep file dates"),
        this.apply,
      ),
    );
  }

  // Those that the plan would write: a row to be reviewed needs a decision of its own.
  undecided() {
    return this.rows.filter(
      (row) => !row.decision && row.state !== "written" && row.action === "write",
    );
  }

  update() {
    const [, fits] = FILTERS[this.filter];
    this.shown = this.rows.filter(fits);
    this.elements.clear();
    this.list.replaceChildren();
    this.last = null;
    this.added = 0;
    if (!this.shown.length) {
      const words = this.rows.length
        ? "No change of this kind."
        : "There is nothing to write.";
      this.list.append(h("p", { class: "note panel" }, words));
    }
    this.addRows();
    this.tally();
  }

  addRows() {
    const next = this.shown.slice(this.added, this.added + PAGE);
    for (const row of next) {
      const folder = row.path.split("/").slice(0, -1).join("/");
      const key = JSON.stringify([folder, row.action === "review"]); // those to be reviewed come first
      if (this.last?.key !== key) this.last = { key, ...this.album(folder) };
      this.last.rows.push(row);
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
    const rows = [];
    const all = (decision, words) =>
      h(
        "button",
        {
          type: "button",
          class: "button small",
          "aria-label": `${words} ${folder || "these"}`,
          onclick: () => this.decide(rows, decision),
        },
        words,
      );
    this.list.append(
      h(
        "section",
        { class: "album", "aria-label": folder || "Files in no folder" },
        h(
          "div",
          { class: "album-head" },
          h("h3", {}, folder || "In no folder"),
          all("yes", "Accept all"),
          all("no", "Reject all"),
        ),
        list,
      ),
    );
    return { list, rows };
  }

  // What a row shows now.
  draw(row) {
    const element = this.elements.get(row.n);
    if (!element) return;
    const file = row.path.split("/").at(-1);
    const written = row.state === "written";
    const like = this.like(row).length;
    const isEdited = row.genres !== row.new;
    const button = (key, words, name, press, pressed) =>
      h(
        "button",
        {
          type: "button",
          class: "button small",
          "aria-pressed": pressed === undefined ? null : String(pressed),
          "aria-label": `${words} ${file}`,
          disabled: written,
          title: `${words} (${key})`,
          onclick: press,
        },
        name,
      );
    const decide = (decision) => () =>
      this.decide([row], row.decision === decision ? null : decision);
    element.className = `row ${row.decision ?? ""} ${row.state ?? ""}`;
    const had = element.contains(document.activeElement) && element !== document.activeElement;
    element.replaceChildren(
      row.track === null
        ? h("span", {})
        : trackButton(row.track, file, (track) => this.player.press(track)),
      h(
        "div",
        { class: "row-words" },
        h("span", { class: "row-file" }, file),
        h(
          "span",
          { class: "row-change" },
          h("span", { class: "old" }, row.old.join("; ") || "no genre"),
          h(
            "span",
            { class: "arrow" },
            h("span", { class: "hidden" }, "becomes"),
            h("span", { "aria-hidden": "true" }, "→"),
          ),
          h("strong", { class: "new" }, row.genres.join("; ") || "?"),
          row.confidence !== null &&
            !isEdited &&
            h("span", { class: "share" }, inPercent(row.confidence.toFixed(2))),
          row.action === "review" && h("span", { class: "chip unsure" }, "contradicts tags"),
          isEdited &&
            this.unknown(row.genres).length > 0 &&
            h("span", { class: "chip unsure" }, "not in the list of genres"),
        ),
        h("span", { class: "note evidence" }, this.reasons(row)),
        row.state &&
          h(
            "span",
            { class: "row-state" },
            STATES[row.state] ?? row.state,
            row.why && `: ${row.why}`,
          ),
      ),
      h(
        "div",
        { class: "row-buttons" },
        button("a", "Accept", "Accept", decide("yes"), row.decision === "yes"),
        button("r", "Reject", "Reject", decide("no"), row.decision === "no"),
        button("e", "Edit", "Edit", () => this.edit(row)),
        like > 1 &&
          button("l", `All ${like} like this:`, `All ${like} like this`, () =>
            this.decideLike(row),
          ),
      ),
    );
    if (had) element.focus({ preventScroll: true });
  }

  reasons(row) {
    const more = this.evidence
      .filter((name) => row[name]?.length)
      .map((name) => `${name}: ${[row[name]].flat().join(", ")}`);
    return inPercent([row.reason.replace(/^review: /, ""), ...more].filter(Boolean).join(" · "));
  }

  group({ action, old, new: to }) {
    return this.likes.get(JSON.stringify([action, old, to]));
  }

  // A row, and those with the same change that are still open.
  like(row) {
    const isOpen = (one) => one === row || (!one.decision && one.state !== "written");
    return this.group(row).filter(isOpen);
  }

  // Of genres, those that are not in the list.
  unknown(genres) {
    return genres.filter((name) => !this.known.has(name.toLowerCase()));
  }

  /** Decide all that are like this one as it is decided; one that is open is accepted. */
  decideLike(row) {
    const rows = this.like(row);
    if (row.decision !== "no") for (const one of rows) choose(one, row.genres);
    this.decide(rows, row.decision ?? "yes");
  }

  decide(rows, decision) {
    for (const row of rows) {
      if (row.state === "written" || (decision === "yes" && !row.genres.length)) continue;
      row.decision = decision;
    }
    const decided = new Set(rows);
    // Their buttons say how many are alike; one that is being edited stays as it is until then.
    for (const group of new Set(rows.map((row) => this.group(row)))) {
      for (const row of group) if (!this.isBeingEdited(row) || decided.has(row)) this.draw(row);
    }
    const words = { yes: "accepted", no: "rejected" }[decision] ?? "open again";
    announce(
      rows.length === 1 ? `${rows[0].path.split("/").at(-1)} ${words}` : `${rows.length} ${words}`,
    );
    this.tally();
  }

  isBeingEdited(row) {
    return Boolean(this.elements.get(row.n)?.querySelector("form"));
  }

  edit(row) {
    const element = this.elements.get(row.n);
    if (row.state === "written" || this.isBeingEdited(row)) return;
    const input = h("input", {
      class: "field",
      list: "genre-names",
      "aria-label": `Genres of ${row.path.split("/").at(-1)}, several with ;`,
    });
    input.value = row.genres.join("; ");
    const close = (save) => {
      const names = input.value
        .split(";")
        .map((name) => name.trim())
        .filter(Boolean);
      if (save && !names.length) return input.focus();
      if (save) choose(row, names);
      form.remove();
      this.draw(row);
      if (save) this.decide([row], "yes");
      element.focus();
    };
    const help = h("span", { class: "note", role: "status" });
    const explain = () => {
      const [first] = this.unknown(input.value.split(";").map((name) => name.trim())).filter(Boolean);
      help.textContent = first
        ? `“${first}” is not in the list of genres; it would be written as it is.`
        : "Several genres: put ; between them.";
    };
    input.addEventListener("input", explain);
    explain();
    const form = h(
      "form",
      { class: "row-edit" },
      input,
      h("button", { class: "button small primary" }, "Save"),
      h("button", { type: "button", class: "button small", onclick: () => close(false) }, "Cancel"),
      help,
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

  /** Put the focus on the first row, so that the keys work at once. */
  begin() {
    announce(this.plan.summary); // which the focus skips
    this.elements.get(this.shown[0]?.n)?.focus({ preventScroll: true });
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
    const isDone = !accepted.length && !open;
    this.summary.textContent = isDone
      ? "All is decided"
      : `${accepted.length} accepted, ${open} to decide`;
    this.apply.textContent = accepted.length
      ? `Write ${plural(accepted.length, "file")}`
      : "Write files";
    this.apply.disabled = !accepted.length;
    // Not at once: it takes a while for many.
    clearTimeout(this.keeping);
    this.keeping = setTimeout(() => this.keepDecisions(), KEEP_MS);
  }

  keepDecisions() {
    const kept = this.rows
      .filter((row) => row.decision)
      .map(({ n, decision, genres, new: to }) => [
        n,
        { decision, ...(genres !== to && { genres }) },
      ]);
    try {
      sessionStorage.setItem(`plan ${this.id}`, JSON.stringify(Object.fromEntries(kept)));
    } catch {
      // A browser without storage, or with too little, forgets them at a reload.
    }
  }

  release() {
    window.removeEventListener("pagehide", this.leave);
    clearTimeout(this.keeping);
    this.keepDecisions();
    this.player.stop();
    this.past.onchange = () => {};
  }

  /** Show what has become of the rows. */
  async refresh() {
    const plan = await get(`${ROOT}/plans/${this.id}`, this.signal).catch(() => null);
    if (!plan || this.signal.aborted) return; // it is no longer kept: History says what it did
    const states = new Map(plan.rows.map((row) => [row.n, row]));
    for (const row of this.rows) {
      Object.assign(row, { state: states.get(row.n).state, why: states.get(row.n).why });
      if (row.state === "written") row.decision = null;
      this.draw(row);
    }
    this.tally();
  }

  async write() {
    const accepted = this.rows.filter((row) => row.decision === "yes" && row.state !== "written");
    const rows = accepted.map((row) => ({
      n: row.n,
      ...(row.genres !== row.new && { new: row.genres }),
    }));
    this.apply.disabled = true;
    const path = `${ROOT}/plans/${this.id}/apply`;
    const state = await run(
      "Writing",
      path,
      { rows, preserve_mtime: this.keep.checked },
      this.done,
      this.signal,
    );
    await this.refresh();
    if (this.signal.aborted) return;
    if (state?.answer) {
      const undo = h(
        "button",
        {
          type: "button",
          class: "button small",
          onclick: () => this.past.resume(state.answer.history, "undo", this.done),
        },
        "Undo",
      );
      const { counts } = state.answer;
      this.done.replaceChildren(result(state.answer, counts.written > 0 && undo));
      this.done.focus({ preventScroll: true }); // there may be nothing more to write
      announce(counted(counts));
    }
    this.past.load();
  }
}

// Those of the plan stay its own: others count as edited.
function choose(row, genres) {
  row.genres = JSON.stringify(genres) === JSON.stringify(row.new) ? row.new : genres;
}

function recall(id) {
  try {
    return JSON.parse(sessionStorage.getItem(`plan ${id}`) ?? "{}");
  } catch {
    return {};
  }
}
