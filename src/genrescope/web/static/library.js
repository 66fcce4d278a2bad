// The library: what is in it, on a map and as a list; search, filters, playlists, a poster.

import { Failure, get } from "./api.js";
import { deck, markPlaying, trackButton } from "./deck.js";
import { announce, h, icon } from "./dom.js";
import { problem, styled } from "./frame.js";
import { capital, genreClass, percent, plural, swatch } from "./genres.js";
import { map } from "./map.js";
import { download, savePoster } from "./poster.js";

const PAGE = 100; // rows of the list that are added at a time
const WAIT_S = 20;
const NONE = "none of these"; // what tracks without a genre are filed under
const SURE = [
  ["", "Any confidence"],
  ["sure", "Not unsure"],
  ["unsure", "Unsure only"],
  ["0.5", "50 % and more"],
  ["0.7", "70 % and more"],
  ["0.9", "90 % and more"],
];

let leave = () => {};

export function hide() {
  leave();
}

export async function show(element, config) {
  const stop = new AbortController();
  const left = [() => stop.abort()];
  leave = () => left.forEach((one) => one());
  document.title = "Library · genrescope";
  styled(element);
  const waiting = h("p", { class: "note", role: "status" }, "Opening the library …");
  element.append(h("h1", {}, config.library.name), waiting);
  let contents, tracks;
  try {
    [contents, tracks] = await Promise.all(
      ["", "/tracks"].map((part) => get(`/api/library${part}`, stop.signal)),
    );
  } catch (error) {
    if (!stop.signal.aborted) waiting.replaceWith(problem(error));
    return;
  }
  if (stop.signal.aborted) return;
  waiting.remove();
  const shelf = new Shelf(contents, tracks);
  element.append(shelf.lead(), shelf.body(), shelf.failures(), shelf.player.element);
  left.push(() => shelf.release());
  shelf.update();
  shelf.readNames(stop.signal);
  try {
    shelf.draw(await get("/api/library/map", stop.signal));
  } catch (error) {
    if (!stop.signal.aborted) shelf.drawing.replaceChildren(problem(error));
  }
}

/** Make text that is searched: without case and accents. */
export function plain(text) {
  return text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
}

// The tracks, and which of them are shown. A track is its number, which is its place in the columns.
class Shelf {
  constructor(contents, tracks) {
    Object.assign(this, { contents }, tracks);
    this.count = this.path.length;
    this.title = [];
    this.artist = [];
    this.album = [];
    this.genres = new Set(); // chosen; empty for all
    this.loop = null; // a Set of those in the lasso
    this.found = []; // those shown, in the order of the list
    this.rows = 0; // of the list
    this.player = deck(
      (i) => this.name(i),
      (i) => this.genre[i],
      (i) => {
        markPlaying(this.list, i);
        this.map?.mark(i);
      },
      (i, by) => this.found[this.found.indexOf(i) + by],
    );
    this.map = null; // computed by the server when it is first asked for, which may take seconds
    this.drawing = h("div", { class: "map map-waiting", role: "status" }, "Drawing the map …");
    this.posters = ["svg", "png"].map((kind) =>
      h(
        "button",
        {
          type: "button",
          class: "button small",
          disabled: true,
          onclick: () => savePoster(this, kind),
        },
        icon("download"),
        `Poster ${kind.toUpperCase()}`,
      ),
    );
  }

  draw({ x, y }) {
    Object.assign(this, { x, y });
    this.map = map({
      x,
      y,
      genres: this.genre,
      name: (i) => `${this.name(i)}: ${this.label(i)}`,
      onpick: (i) => this.player.press(i),
      onlasso: (numbers) => {
        this.loop = numbers?.size ? numbers : null;
        this.update();
      },
    });
    this.drawing.replaceWith(this.map.element);
    for (const button of this.posters) button.disabled = false;
    this.showOnMap();
  }

  showOnMap() {
    this.map?.show(this.found.length === this.count ? null : new Set(this.found));
  }

  label(i) {
    return this.other[i] ? NONE : `${this.genre[i]} ${percent(this.confidence[i])}`;
  }

  /** What a track is called: by its tags, else its file's name. */
  name(i) {
    const file = this.path[i]
      .split("/")
      .at(-1)
      .replace(/\.[^.]*$/, "");
    return [this.title[i] || file, this.artist[i]].filter(Boolean).join(" · ");
  }

  lead() {
    const { contents } = this;
    const words = [plural(contents.tracks, "track")];
    words.push(plural(contents.genres.length, "genre"));
    if (contents.failed) words.push(`${plural(contents.failed, "file")} that cannot be read`);
    return h("p", { class: "lead" }, `${words.join(", ")}.`);
  }

  body() {
    this.search = h("input", {
      type: "search",
      class: "field",
      placeholder: "Title, artist, album or folder",
      "aria-label": "Search",
      oninput: () => this.update(),
    });
    this.sure = h(
      "select",
      { class: "field", "aria-label": "Confidence", onchange: () => this.update() },
      SURE.map(([value, words]) => h("option", { value }, words)),
    );
    this.summary = h("p", { class: "found", role: "status" });
    this.list = h("ul", { class: "tracks shelf-list" });
    this.more = h(
      "button",
      { type: "button", class: "button", onclick: () => this.addRows() },
      `Show ${PAGE} more`,
    );
    this.clear = h(
      "button",
      { type: "button", class: "button small", onclick: () => this.reset() },
      icon("close"),
      "Show all",
    );
    this.save = h(
      "button",
      { type: "button", class: "button small", onclick: () => this.savePlaylist() },
      icon("download"),
      "Playlist",
    );
    return h(
      "div",
      { class: "shelf" },
      h(
        "section",
        { class: "shelf-map", "aria-label": "Map" },
        this.drawing,
        h(
          "div",
          { class: "shelf-foot" },
          h(
            "p",
            { class: "note" },
            "Tracks that sound alike lie close together. Click one to play it.",
          ),
          h("div", { class: "actions" }, this.posters),
        ),
        this.legend(),
      ),
      h(
        "section",
        { class: "shelf-side", "aria-label": "Tracks" },
        h("div", { class: "shelf-search" }, this.search, this.sure),
        h("div", { class: "shelf-found" }, this.summary, this.clear, this.save),
        this.list,
        this.more,
      ),
    );
  }

  // The genres with their numbers; each is a filter.
  legend() {
    const rows = this.contents.genres.map(({ genre, tracks }) => [genre, tracks]);
    if (this.contents.other) rows.push([NONE, this.contents.other]);
    const largest = Math.max(...rows.map(([, tracks]) => tracks), 1);
    const entries = rows.map(([genre, tracks]) => {
      const button = h(
        "button",
        { type: "button", class: `genre-filter ${genreClass(genre)}`, "aria-pressed": "false" },
        swatch(genre === NONE ? null : genre),
        h("span", { class: "genre-name" }, capital(genre)),
        h(
          "span",
          { class: "bar", "aria-hidden": "true" },
          h("span", { style: { width: `${(100 * tracks) / largest}%` } }),
        ),
        h("span", { class: "share" }, tracks.toLocaleString("en")),
      );
      button.addEventListener("click", () => {
        if (!this.genres.delete(genre)) this.genres.add(genre);
        button.setAttribute("aria-pressed", this.genres.has(genre));
        this.update();
      });
      return h("li", {}, button);
    });
    this.filters = h(
      "ul",
      { class: "genre-filters", "aria-label": "Show only these genres" },
      entries,
    );
    return this.filters;
  }

  failures() {
    const { failures } = this.contents;
    if (!failures.length) return "";
    return h(
      "details",
      { class: "panel" },
      h("summary", {}, `${plural(failures.length, "file")} that cannot be read`),
      h(
        "ul",
        { class: "failures" },
        failures.map(({ path, cause }) =>
          h("li", {}, h("strong", {}, path), h("span", { class: "note" }, cause)),
        ),
      ),
    );
  }

  update() {
    const words = plain(this.search.value).split(/\s+/).filter(Boolean);
    const sure = this.sure.value;
    this.found = [];
    for (let i = 0; i < this.count; i++) {
      if (this.loop && !this.loop.has(i)) continue;
      if (this.genres.size && !this.genres.has(this.other[i] ? NONE : this.genre[i])) continue;
      if (sure && !this.isSure(i, sure)) continue;
      if (words.length) {
        const text = this.text(i);
        if (!words.every((word) => text.includes(word))) continue;
      }
      this.found.push(i);
    }
    const all = this.found.length === this.count;
    this.player.update();
    this.showOnMap();
    const count = this.found.length.toLocaleString("en");
    this.summary.textContent = all
      ? `All ${count} tracks`
      : `${count} of ${this.count.toLocaleString("en")} tracks`;
    this.clear.hidden = all && !this.loop;
    this.save.disabled = !this.found.length;
    this.list.replaceChildren();
    this.rows = 0;
    this.addRows();
  }

  isSure(i, sure) {
    if (this.other[i]) return false;
    if (sure === "sure") return !this.unsure[i];
    if (sure === "unsure") return this.unsure[i];
    return this.confidence[i] >= Number(sure);
  }

  text(i) {
    return plain(
      `${this.title[i] ?? ""} ${this.artist[i] ?? ""} ${this.album[i] ?? ""} ${this.path[i]}`,
    );
  }

  reset() {
    this.loop = null;
    this.search.value = this.sure.value = "";
    this.genres.clear();
    for (const button of this.filters.querySelectorAll("button"))
      button.setAttribute("aria-pressed", "false");
    this.update();
    this.search.focus();
  }

  addRows() {
    const next = this.found.slice(this.rows, this.rows + PAGE);
    this.list.append(...next.map((i) => this.row(i)));
    this.rows += next.length;
    this.more.hidden = this.rows >= this.found.length;
  }

  row(i) {
    const below = [this.artist[i], this.album[i]].filter(Boolean).join(" · ");
    return h(
      "li",
      {},
      trackButton(i, this.name(i), (number) => this.player.press(number)),
      h(
        "div",
        { class: "track" },
        h("span", { class: "track-title" }, this.title[i] || this.name(i)),
        h("span", { class: "note" }, below || this.path[i]),
      ),
      h(
        "span",
        { class: "track-genre" },
        swatch(this.genre[i]),
        this.other[i] ? NONE : this.genre[i],
      ),
      h(
        "span",
        { class: `share ${this.unsure[i] ? "unsure" : ""}` },
        this.other[i] ? "" : percent(this.confidence[i]),
      ),
    );
  }

  // Titles come from the files' tags, which takes a while for many.
  async readNames(signal) {
    try {
      while (this.title.length < this.count) {
        const { from, title, artist, album } = await get(
          `/api/library/names?since=${this.title.length}&wait=${WAIT_S}`,
          signal,
        );
        if (from !== this.title.length) return;
        this.title.push(...title);
        this.artist.push(...artist);
        this.album.push(...album);
        if (title.length) this.rename();
      }
    } catch (error) {
      if (!signal.aborted && !(error instanceof Failure)) throw error; // paths serve as names
    }
  }

  rename() {
    if (this.search.value) this.update();
    else {
      const shown = this.list.contains(document.activeElement)
        ? document.activeElement.dataset.track
        : null;
      const rows = this.found.slice(0, this.rows).map((i) => this.row(i));
      this.list.replaceChildren(...rows);
      if (shown) this.list.querySelector(`[data-track="${shown}"]`)?.focus();
    }
  }

  async savePlaylist() {
    const words = [...this.genres].map(capital).join(", ") || this.search.value.trim();
    const name = words || (this.loop ? "From the map" : this.contents.name);
    try {
      const absolute = this.contents.absolute;
      const left = await download(
        "/api/library/playlist",
        { tracks: this.found, name, absolute },
        `${name}.m3u8`,
      );
      announce(`Playlist of ${plural(this.found.length - left, "track")} saved`);
      if (left) {
        const text = `The playlist lacks ${left} of these tracks: their file names cannot be lines of text.`;
        this.summary.after(h("p", { class: "note", role: "status" }, text));
      }
    } catch (error) {
      this.summary.after(problem(error));
    }
  }

  release() {
    this.player.stop();
    this.map?.release();
  }
}
