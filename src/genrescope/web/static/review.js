// Review: make a plan of changes of tags, decide on it, and see what was written before.

import { get } from "./api.js";
import { h } from "./dom.js";
import { problem, styled } from "./frame.js";
import { ROOT, again, run } from "./job.js";
import { Past } from "./past.js";
import { Sheet } from "./sheet.js";

const OPTIONS = {
  existing: [
    "Files that have a genre",
    { skip: "leave them", add: "add to it", replace: "replace it" },
  ],
  min_confidence: ["Minimum confidence, in %"],
  min_second: ["Minimum of a second genre, in %"],
  max_genres: ["Genres per file, at most"],
  album: [
    "Tracks of an album",
    { agree: "one genre where they agree", vote: "one genre always", off: "each its own" },
  ],
  map_existing: ["Rename genres that files have to those of the list (Hip Hop to Hip-Hop)"],
  from_tags: ["Where none of the model's genres fits, write a tag such as Ambient"],
  break_hard_links: ["Write files that have a second name, too (hard links)"],
};
const FIRST = ["existing", "min_confidence"]; // the others are folded

let leave = () => {};

export function hide() {
  leave();
}

export async function show(element, config, rest) {
  const stop = new AbortController();
  document.title = "Review · genrescope";
  styled(element);
  const place = h("div", { class: "review-place" });
  const past = new Past(stop.signal);
  const view = { place, past, signal: stop.signal, release: () => {} };
  leave = () => {
    stop.abort();
    view.release();
  };
  element.append(
    h("h1", {}, "Review"),
    h(
      "p",
      { class: "lead" },
      "Genres that would be written into your files. Nothing is changed until you apply it, and it can be undone.",
    ),
    place,
    past.element,
  );
  try {
    if (rest) await openPlan(view, decodeURIComponent(rest));
    else await showForm(view);
  } catch (error) {
    if (stop.signal.aborted) return;
    place.replaceChildren(problem(error), again());
  }
  past.load(); // below what has come in, which would move it
}

// The options of a plan, as the server describes them.
async function showForm({ place, signal }) {
  const { options } = await get(`${ROOT}/plan`, signal);
  const known = options.properties;
  const names = new Set([...Object.keys(OPTIONS), ...Object.keys(known)]);
  const fields = [...names]
    .filter((name) => name in known)
    .map((name) => field(name, known[name], options.$defs));
  const some = (first) =>
    fields.filter(({ name }) => FIRST.includes(name) === first).map(({ element }) => element);
  const form = h(
    "form",
    { class: "panel plan-form" },
    h("div", { class: "plan-options" }, some(true)),
    h(
      "details",
      {},
      h("summary", {}, "More options"),
      h("div", { class: "plan-options" }, some(false)),
    ),
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
    input = h(
      "select",
      { id, class: "field" },
      kind.enum.map((one) => h("option", { value: one }, words[one] ?? one)),
    );
    input.value = about.default;
    value = () => input.value;
  } else if (kind.type === "boolean") {
    input = h("input", { id, type: "checkbox" });
    input.checked = about.default;
    value = () => input.checked;
  } else {
    const isShare = kind.type === "number"; // of the API in [0, 1], of people in %
    const scale = isShare ? 100 : 1;
    input = h("input", {
      id,
      class: "field",
      type: "number",
      min: isShare ? 0 : 1,
      max: isShare ? 100 : null,
      required: true,
    });
    input.value = Math.round(scale * about.default);
    value = () => Number(input.value) / scale;
  }
  return {
    name,
    value,
    element: h(
      "div",
      { class: kind.type === "boolean" ? "option switch" : "option" },
      h("label", { for: id }, label),
      input,
    ),
  };
}

async function openPlan(view, id) {
  const [{ genres }, plan] = await Promise.all([
    get(`${ROOT}/plan`, view.signal),
    get(`${ROOT}/plans/${encodeURIComponent(id)}`, view.signal),
  ]);
  const sheet = new Sheet(view, plan, genres);
  view.release = () => sheet.release();
  view.place.replaceChildren(sheet.element, sheet.player.element);
  sheet.update();
  sheet.begin();
}
