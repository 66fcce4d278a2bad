// An answer on the page, the place that is kept for it, and errors.

import { copyButton, h, icon } from "./dom.js";
import { capital, chip, clock, genreClass, inPercent, percent, swatch } from "./genres.js";
import { playButton, player, sound } from "./player.js";

const FIRST = 3; // genres with bars before "all" is asked for
const TAGS = 12;
const LIKELY = 0.1; // a tag less likely than this is not shown
const SOON_S = 10; // a song is analysed in less

/** Give what a file is called: by its tags, else its own name. */
export function title(answer) {
  return [answer.title, answer.artist].filter(Boolean).join(" · ") || answer.file;
}

/** Give the word for an answer. */
export function heading(answer) {
  return answer.other ? "Other" : capital(answer.best);
}

/** Show an answer of `/api/answers`; `config` is that of `/api/page`, `level` of its headings. */
export function show(answer, config, level = 1) {
  const name = title(answer);
  const part = `h${level + 1}`;
  return h(
    "article",
    { class: `answer ${genreClass(answer.genre)}`, "aria-label": `Answer for ${name}` },
    h(
      "div",
      { class: "verdict" },
      h(
        "div",
        { class: "verdict-words" },
        h("p", { class: "eyebrow" }, h("span", { class: "name", title: answer.file }, name), clock(answer.seconds)),
        h(`h${level}`, { class: "genre" }, heading(answer)),
        h("p", { class: "certainty" }, chip(answer.confidence_level), meaning(answer)),
        answer.warnings.map((warning) => h("p", { class: "note warning" }, `${capital(warning)}.`)),
      ),
      bars(answer, config),
    ),
    player(answer, name),
    h("div", { class: "more" }, tags(answer, part), near(answer.similar, part)),
    actions(answer, name),
  );
}

/**
 * Keep the place of an answer that is not there yet.
 * Returns the element, `set(state, text, part)`: what is done, and how much of it, if known;
 * `elapsed(seconds)`: for how long; and `rename(name)`.
 */
export function pending(name, cancel) {
  const label = h("span", { class: "name" });
  const state = h("h1", { class: "genre" });
  const text = h("p", { class: "certainty" });
  const done = h("div", { class: "done" });
  const progress = h("div", { class: "progress", role: "progressbar" }, done);
  const time = h("span", { class: "elapsed", role: "timer" }); // which is not read out as it counts
  const element = h(
    "article",
    { class: "answer pending", "aria-busy": "true" },
    h(
      "div",
      { class: "verdict" },
      h("div", { class: "verdict-words" }, h("p", { class: "eyebrow" }, label), state, text),
      h(
        "div",
        { class: "waiting" },
        progress,
        time,
        h("button", { type: "button", class: "button", onclick: cancel }, icon("close"), "Cancel"),
      ),
    ),
    h(
      "div",
      { class: "player", "aria-hidden": "true" },
      h("div", { class: "player-bar" }, h("span", { class: "play" })),
      h("div", { class: "stage" }, h("div", { class: "mel" }), h("div", { class: "strip" })),
      h("div", { class: "ticks" }),
    ),
  );
  const set = (word, more, part) => {
    state.textContent = word;
    text.textContent = more;
    progress.classList.toggle("endless", part === undefined);
    done.style.setProperty("width", `${100 * (part ?? 1)}%`);
    if (part === undefined) progress.removeAttribute("aria-valuenow");
    else progress.setAttribute("aria-valuenow", Math.round(100 * part));
  };
  const rename = (name) => {
    label.textContent = name;
    element.setAttribute("aria-label", `Answer for ${name}`);
    progress.setAttribute("aria-label", `Progress of ${name}`);
  };
  const elapsed = (seconds) => (time.textContent = `${Math.floor(seconds)}\u00a0s`);
  rename(name);
  return { element, set, elapsed, rename };
}

/** Write the state of a job, and more about it, when it has been running for `seconds`. */
export function words({ state, place }, seconds = 0) {
  if (state === "running") {
    const isSoon = seconds < SOON_S;
    return ["Analysing", isSoon ? "A song takes a few seconds" : "Long tracks take longer"];
  }
  if (place > 1) return ["In the queue", `${place - 1} before this one`];
  return ["In the queue", place === 1 ? "This one is next" : ""]; // else its place is not known yet
}

/** Show why there is no answer. */
export function failed(name, error) {
  return h(
    "div",
    { class: "answer failure", role: "alert" },
    name && h("p", { class: "eyebrow" }, h("span", { class: "name" }, name)),
    h("h1", {}, error.title),
    error.remedy && h("p", { class: "remedy" }, error.remedy),
    error.detail &&
      error.detail !== error.title &&
      h("details", {}, h("summary", {}, "Details"), h("p", { class: "note" }, error.detail)),
  );
}

function meaning(answer) {
  const closest = `closest is ${answer.best}, ${percent(answer.confidence)}`;
  return [answer.confidence_text, answer.other && closest].filter(Boolean).join("; ");
}

function bars(answer, config) {
  const rows = answer.scores.map(({ label, score }, i) =>
    h(
      "li",
      { class: genreClass(label), hidden: i >= FIRST },
      h("span", { class: "bar-name" }, label),
      h(
        "span",
        { class: "bar", "aria-hidden": "true" },
        h("span", { style: { width: `${100 * score}%` } }),
      ),
      h("span", { class: "share" }, percent(score)),
    ),
  );
  const all = h(
    "button",
    { type: "button", class: "button small", "aria-expanded": "false", onclick: press },
    `All ${rows.length}`,
  );
  function press() {
    const open = all.getAttribute("aria-expanded") !== "true";
    all.setAttribute("aria-expanded", open);
    all.textContent = open ? `First ${FIRST}` : `All ${rows.length}`;
    rows.slice(FIRST).forEach((row) => (row.hidden = !open));
  }
  return h(
    "section",
    { class: "bars", "aria-label": "Genres and their probability" },
    h("p", { class: "label" }, "The whole track"),
    h("ul", {}, rows),
    rows.length > FIRST && all,
    !answer.other && config.calibration && h("p", { class: "note" }, config.calibration),
  );
}

function tags(answer, part) {
  const genres = new Set(answer.scores.map(({ label }) => plain(label)));
  const likely = answer.tags.filter(
    ({ label, score }) => score >= LIKELY && !genres.has(plain(label)),
  );
  if (!likely.length) return null;
  const chips = likely
    .slice(0, TAGS)
    .map(({ label, score }) => h("li", {}, label, h("span", { class: "share" }, percent(score))));
  return h("section", {}, h(part, {}, "Tags"), h("ul", { class: "tags" }, chips));
}

function plain(name) {
  return name.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "");
}

function near(similar, part) {
  if (!similar?.length) return null;
  const rows = similar.map((track) => {
    const name = track.title || track.path.replace(/^.*\//, "");
    return h(
      "li",
      {},
      playButton(() => sound(track.audio), name),
      h(
        "span",
        { class: "track" },
        h(
          "span",
          { class: "track-title", title: track.path },
          h("a", { href: `#/track/${track.track}` }, name),
        ),
        track.artist && h("span", { class: "note" }, track.artist),
      ),
      h("span", { class: "track-genre" }, swatch(track.genre), track.genre ?? "none of these"),
      h(
        "span",
        { class: "share" },
        h("span", { class: "hidden" }, "similarity "),
        percent(track.similarity),
      ),
    );
  });
  return h(
    "section",
    {},
    h(
      "div",
      { class: "near-head" },
      h(part, {}, "Sounds like"),
      h("span", { class: "note", "aria-hidden": "true" }, "similarity"),
    ),
    h("ol", { class: "tracks" }, rows),
  );
}

function actions(answer, name) {
  const text = () => `${name}: ${inPercent(answer.sentence)}`;
  const link = (address, words) =>
    h("a", { class: "button", href: address, download: "" }, icon("download"), words);
  return h(
    "div",
    { class: "actions" },
    copyButton(text, "Copy"),
    link(answer.links.json, "JSON"),
    link(answer.links.csv, "CSV"),
  );
}
