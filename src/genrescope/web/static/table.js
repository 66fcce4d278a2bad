// The answers of several files: a table that sorts and downloads.

import { title, words } from "./answer.js";
import { announce, h, icon } from "./dom.js";
import { chip, clock, percent, swatch } from "./genres.js";

const COLUMNS = [
  ["File", (item) => label(item).toLowerCase()],
  ["Genre", (item) => (item.answer ? (item.answer.genre ?? "~") : "~~")], // none of these, then none yet
  // The surest first.
  ["Confidence", ({ answer }) => (answer ? (answer.other ? 0 : -answer.confidence) : 1), true],
  ["Length", (item) => item.answer?.seconds ?? Infinity],
];
const CSV = [
  "file",
  "title",
  "artist",
  "genre",
  "best",
  "confidence",
  "unsure",
  "seconds",
  "error",
];

/** Make the table of a batch; `draw()` shows what has changed. */
export function table(batch) {
  let by = null; // column, and whether it is turned round
  let turned = false;
  const rows = new Map(batch.items.map((item) => [item, h("tr")]));
  const body = h("tbody", {}, [...rows.values()]);
  const heads = COLUMNS.map(([name], i) =>
    h(
      "th",
      { scope: "col" },
      h("button", { type: "button", onclick: () => sort(i) }, name, icon("sort")),
    ),
  );
  const heading = h("h1", { tabindex: -1 });
  const cancel = h(
    "button",
    { type: "button", class: "button", hidden: true, onclick: () => batch.cancel() },
    icon("close"),
    "Cancel the rest",
  );
  const save = ["CSV", "JSON"].map((kind) =>
    h(
      "button",
      { type: "button", class: "button", onclick: () => download(batch, kind) },
      icon("download"),
      kind,
    ),
  );
  const element = h(
    "section",
    { class: "answers", "aria-label": "Answers" },
    h("div", { class: "answers-head" }, heading, h("div", { class: "actions" }, cancel, save)),
    batch.left > 0 &&
      h("p", { class: "problem" }, `The first ${batch.items.length} files were sent, and ${batch.left} were not: drop them next.`),
    h(
      "div",
      { class: "scroll", role: "region", tabindex: 0, "aria-label": "Table of answers" },
      h("table", { class: "answers-table" }, h("thead", {}, h("tr", {}, heads)), body),
    ),
  );

  function sort(column) {
    turned = by === column && !turned;
    by = column;
    heads.forEach((head, i) => {
      const falls = turned !== Boolean(COLUMNS[i][2]);
      if (i === by) head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    draw();
  }

  function draw() {
    const done = batch.items.filter((item) => item.answer).length;
    const failed = batch.items.filter((item) => item.state === "failed").length;
    const words = `${done} of ${batch.items.length} files analysed`;
    heading.textContent = failed ? `${words}, ${failed} failed` : words;
    if (cancel.hidden !== !batch.running) {
      if (cancel === document.activeElement) heading.focus();
      cancel.hidden = !batch.running;
      if (cancel.hidden) announce(heading.textContent);
    }
    for (const button of save) button.disabled = done === 0;
    for (const [item, row] of rows) {
      const text = JSON.stringify([item.id, item.state, item.place, item.text, item.name]);
      if (row.dataset.shown === text) continue;
      row.dataset.shown = text;
      row.replaceChildren(...cells(item));
    }
    const order = ordered();
    if (order.some((row, i) => row !== body.children[i])) body.append(...order);
  }

  function ordered() {
    const items = [...batch.items];
    if (by !== null) {
      const key = COLUMNS[by][1];
      const sign = turned ? -1 : 1;
      items.sort((a, b) => (key(a) < key(b) ? -sign : key(a) > key(b) ? sign : 0));
    }
    return items.map((item) => rows.get(item));
  }

  return { element, draw };
}

function label(item) {
  const { answer, path, name } = item;
  if (answer && (answer.title || answer.artist)) return title(answer);
  return path || answer?.file || name || "…"; // files of several folders may be named alike
}

function cells(item) {
  const { answer, state } = item;
  const name = h(
    "th",
    { scope: "row", title: item.path || answer?.file },
    item.id && state !== "cancelled"
      ? h("a", { href: `#/answer/${item.id}` }, label(item))
      : label(item),
  );
  if (!answer) {
    const kind = state === "failed" ? "problem" : "note";
    return [name, h("td", { colspan: 3, class: kind }, progress(item))];
  }
  return [
    name,
    h(
      "td",
      { class: "named" },
      swatch(answer.genre),
      answer.genre ?? `other (closest: ${answer.best})`,
    ),
    h(
      "td",
      { class: "number" },
      !answer.other && h("span", { class: "share" }, percent(answer.confidence)),
      chip(answer.confidence_level),
    ),
    h("td", { class: "number" }, clock(answer.seconds)),
  ];
}

// How far a file without an answer is.
function progress({ id, state, place, text, error }) {
  if (state === "sending") return `Uploading, ${text}`;
  if (state === "failed") return [error.title, error.remedy].filter(Boolean).join(". ");
  if (state === "cancelled") return "Cancelled";
  if (state === "running") return "Analysing";
  if (!id) return "To be sent";
  const [where, more] = words({ state, place });
  return more ? `${where}: ${more.toLowerCase()}` : where;
}

function download(batch, kind) {
  const items = batch.items.filter((item) => item.answer || item.error);
  const text = kind === "JSON" ? JSON.stringify(items.map(json), null, 1) : csv(items);
  const type = kind === "JSON" ? "application/json" : "text/csv";
  const address = URL.createObjectURL(new Blob([text], { type }));
  h("a", { href: address, download: `genres.${kind.toLowerCase()}` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function json({ name, answer, error }) {
  if (!answer) return { file: name, error: `${error.title}. ${error.detail}` };
  const { links, spectrogram, ...values } = answer; // links end with the answer
  return values;
}

function csv(items) {
  const lines = items.map(({ name, answer, error }) => {
    const values = answer ?? { file: name, error: error.title };
    return CSV.map((key) => cell(values[key])).join(",");
  });
  return [CSV.join(","), ...lines, ""].join("\r\n");
}

// A spreadsheet would take what begins with one of these for a formula.
function cell(value) {
  if (value == null) return "";
  const text =
    typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
