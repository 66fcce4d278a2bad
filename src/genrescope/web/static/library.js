// The library: what is in it, on a map and as a list; search, filters, orders, playlists, a poster.

import { Failure, get } from "./api.js";
import { deck, markPlaying, setPlaying, trackButton } from "./deck.js";
import { announce, h, icon } from "./dom.js";
import { problem, styled } from "./frame.js";
import { capital, genreClass, percent, plural, swatch } from "./genres.js";
import { map } from "./map.js";
import { download, savePoster } from "./poster.js";
import { keep, recall } from "./storage.js";

const PAGE = 100; // rows of the list that are added at a time
const WAIT_S = 20;
const [PAUSE_MS, MAX_PAUSE_MS] = [100, 3000]; // between two looks for names: each redraws the list
const NONE = "none of these"; // what tracks without a genre are filed under
const SURE = [
  ["", "Any confidence"],
  ["sure", "Not unsure"],
  ["unsure", "Unsure only"],
  ["0.5", "50 % and more"],
  ["0.7", "70 % and more"],
  ["0.9", "90 % and more"],
];

// How the list is sorted: in words, and by what of a track; those without it come last.
const ORDERS = {
  folder: ["By folder", (shelf, i) => `${plain(shelf.folder(i))}/${shelf.folder(i)}`],
  title: ["By title", (shelf, i) => plain(shelf.title[i] || shelf.file(i))],
  artist: ["By artist", (shelf, i) => plain(shelf.artist[i] ?? "")],
  genre: ["By genre", (shelf, i) => (shelf.other[i] ? "" : shelf.genre[i])],
  unsure: ["Least certain first", (shelf, i) => (shelf.other[i] ? "" : shelf.confidence[i])],
};
const NAMED = ["title", "artist"]; // orders that names change
const HOLDS = ["href", "data-track", "data-album"]; // what says which track a control is of

let shelf = null; // kept as it is while other views are shown
let stop = new AbortController();

export function hide() {
  stop.abort();
  shelf?.leave();
}

export async function show(element, config) {
  stop = new AbortController();
  const { signal } = stop;
  document.title = "Library · genrescope";
  styled(element);
  try {
    if (!shelf) {
      const waiting = h("p", { class: "note", role: "status" }, "Opening the library …");
      element.append(h("h1", {}, config.library.name), waiting);
      const parts = ["", "/tracks"].map((part) => get(`/api/library${part}`, signal));
      shelf = new Shelf(...(await Promise.all(parts)));
      if (signal.aborted) return;
    }
  } catch (error) {
    if (!signal.aborted) element.lastChild.replaceWith(problem(error));
    return;
  }
  element.replaceChildren(...shelf.parts);
  shelf.enter(signal);
}

/** Make text that is searched: without case and accents. */
export function plain(text) {
  if (/^[\0-\x7f]*$/.test(text)) return text.toLowerCase(); // most are, and there may be many
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
    this.texts = []; // that are searched
    this.orders = new Map(); // once the list has been sorted so
    this.genres = new Set(); // chosen; empty for all
    this.loop = null; // a Set of those in the lasso
    this.found = []; // those shown, in the order of the list
    this.rows = 0; // of the list
    this.albums = []; // those with a heading in the list
    this.player = deck(
      (i) => this.name(i),
      (i) => this.genre[i],
      (i) => this.mark(i),
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
    const title = h("h1", {}, contents.name);
    this.parts = [title, this.lead(), this.body(), this.failures(), this.player.element];
    this.update();
  }

  /** Go on, in the page: with what has not come yet, and where the reader was. */
  async enter(signal) {
    if (this.left) {
      window.scrollTo(0, this.left.page);
      this.list.scrollTop = this.left.list;
      this.left.held.focus({ preventScroll: true });
    }
    this.readNames(signal);
    if (this.map) return;
    try {
      this.draw(await get("/api/library/map", signal));
    } catch (error) {
      if (!signal.aborted) this.drawing.replaceChildren(problem(error));
    }
  }

  leave() {
    this.left = {
      page: window.scrollY,
      list: this.list.scrollTop,
      held: document.activeElement,
    };
    this.player.stop();
  }

  mark(playing) {
    markPlaying(this.list, playing);
    for (const { button, tracks } of this.albums) setPlaying(button, tracks.includes(playing));
    this.map?.mark(playing);
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
    return [this.title[i] || this.file(i), this.artist[i]].filter(Boolean).join(" · ");
  }

  file(i) {
    return this.path[i].slice(this.folder(i).length).replace(/^\/|\.[^.]*$/g, "");
  }

  folder(i) {
    return this.path[i].slice(0, Math.max(this.path[i].lastIndexOf("/"), 0));
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
    this.sort = h(
      "select",
      { class: "field", "aria-label": "Order", onchange: () => this.resort() },
      Object.entries(ORDERS).map(([value, [words]]) => h("option", { value }, words)),
    );
    const order = recall("library-order");
    if (Object.hasOwn(ORDERS, order)) this.sort.value = order;
    this.summary = h("p", { class: "found", role: "status" });
    this.saved = h("div", {}); // what came of the last playlist
    this.list = h("div", { class: "shelf-list" });
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
            "Tracks that sound alike lie close together. Click one to play it; its title in the " +
              "player or the list opens its answer.",
          ),
          h("div", { class: "actions" }, this.posters),
        ),
        this.legend(),
      ),
      h(
        "section",
        { class: "shelf-side", "aria-label": "Tracks" },
        h("div", { class: "shelf-search" }, this.search, this.sure, this.sort),
        h("div", { class: "shelf-found" }, this.summary, this.clear, this.save),
        this.saved,
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
    this.find();
    this.list.scrollTop = 0;
    this.redraw(PAGE);
  }

  resort() {
    keep("library-order", this.sort.value);
    this.update();
  }

  // Find the tracks that are shown.
  find() {
    const words = plain(this.search.value).split(/\s+/).filter(Boolean);
    const sure = this.sure.value;
    this.found = this.sorted().filter((i) => {
      if (this.loop && !this.loop.has(i)) return false;
      if (this.genres.size && !this.genres.has(this.kind(i))) return false;
      if (sure && !this.isSure(i, sure)) return false;
      if (!words.length) return true;
      const text = this.text(i);
      return words.every((word) => text.includes(word));
    });
    const all = this.found.length === this.count;
    this.player.update();
    this.showOnMap();
    const count = this.found.length.toLocaleString("en");
    this.summary.textContent = all
      ? `All ${count} tracks`
      : `${count} of ${this.count.toLocaleString("en")} tracks`;
    this.clear.hidden = all && !this.loop;
    this.save.disabled = !this.found.length;
  }

  // All tracks in the order that is chosen.
  sorted() {
    const by = this.sort.value;
    if (!this.orders.has(by)) {
      const [, value] = ORDERS[by];
      const values = this.path.map((_, i) => value(this, i));
      const all = [...values.keys()];
      const order = all
        .filter((i) => values[i] !== "")
        .sort((a, b) => (values[a] < values[b] ? -1 : Number(values[a] > values[b])));
      this.orders.set(by, order.concat(all.filter((i) => values[i] === "")));
    }
    return this.orders.get(by);
  }

  // The genre that a track is filed under.
  kind(i) {
    return this.other[i] ? NONE : this.genre[i];
  }

  isSure(i, sure) {
    if (this.other[i]) return false;
    if (sure === "sure") return !this.unsure[i];
    if (sure === "unsure") return this.unsure[i];
    return this.confidence[i] >= Number(sure);
  }

  text(i) {
    this.texts[i] ??= plain(
      `${this.title[i] ?? ""} ${this.artist[i] ?? ""} ${this.album[i] ?? ""} ${this.path[i]}`,
    );
    return this.texts[i];
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

  // Show the first rows anew; the control that has the focus keeps it.
  redraw(count) {
    const held = this.list.contains(document.activeElement)
      ? HOLDS.map((name) => [name, document.activeElement.getAttribute(name)])
      : [];
    this.list.replaceChildren();
    this.albums = [];
    this.rows = 0;
    this.addRows(count);
    if (!this.found.length) {
      this.list.append(h("p", { class: "note" }, "No track matches the search and the filters."));
    }
    const [name, value] = held.find(([, value]) => value !== null) ?? [];
    if (name) this.list.querySelector(`[${name}="${value}"]`)?.focus({ preventScroll: true });
  }

  addRows(count = PAGE) {
    const end = Math.min(this.rows + count, this.found.length);
    const byFolder = this.sort.value === "folder";
    for (; this.rows < end; this.rows++) {
      const i = this.found[this.rows];
      const folder = byFolder ? this.folder(i) : null;
      if (!this.rows || folder !== this.section.folder) {
        this.section = byFolder ? this.albumAt(this.rows) : plainSection();
        this.list.append(this.section.element);
      }
      this.section.list.append(this.row(i, this.section.said));
    }
    this.more.hidden = this.rows >= this.found.length;
    this.mark(this.player.playing());
  }

  // The tracks of a folder, from a place in the list on, below a heading.
  albumAt(first) {
    const folder = this.folder(this.found[first]);
    let end = first;
    while (end < this.found.length && this.folder(this.found[end]) === folder) end++;
    const tracks = this.found.slice(first, end);
    const [album, artist] = [this.album, this.artist].map((column) => common(column, tracks));
    const title = album || folder || "In no folder";
    const below = [artist, plural(tracks.length, "track")].filter(Boolean).join(" · ");
    const press = () => {
      const current = this.player.current();
      this.player.press(tracks.includes(current) ? current : tracks[0]);
    };
    const button = h("button", {
      type: "button",
      class: "play small",
      "data-album": tracks[0],
      "data-name": title,
      onclick: press,
    });
    this.albums.push({ button, tracks });
    const list = h("ul", { class: "tracks" });
    const element = h(
      "section",
      { class: "shelf-album", "aria-label": title },
      h(
        "div",
        { class: "shelf-head", title: folder },
        button,
        h(
          "div",
          { class: "track" },
          h("h2", {}, title),
          h("span", { class: "note" }, below),
        ),
        this.mix(tracks),
      ),
      list,
    );
    return { folder, element, list, said: [album, artist, folder] };
  }

  // A bar of the genres of some tracks.
  mix(tracks) {
    const kinds = [...Map.groupBy(tracks, (i) => this.kind(i))]
      .map(([genre, { length }]) => ({ genre, length }))
      .sort((a, b) => b.length - a.length);
    const words = kinds.map(({ genre, length }) => `${genre} ${length}`).join(", ");
    return h(
      "span",
      { class: "mix", role: "img", "aria-label": `Genres: ${words}`, title: words },
      kinds.map(({ genre, length }) =>
        h("span", { class: genreClass(genre), style: { "flex-grow": length } }),
      ),
    );
  }

  // A track, without what the heading above it has `said`.
  row(i, said = []) {
    const names = [this.artist[i], this.album[i]].filter((name) => name && !said.includes(name));
    const path = said.length ? "" : this.path[i];
    return h(
      "li",
      {},
      trackButton(i, this.name(i), (number) => this.player.press(number)),
      h(
        "div",
        { class: "track" },
        h(
          "span",
          { class: "track-title" },
          h("a", { href: `#/track/${i}` }, this.title[i] || this.file(i)),
        ),
        h("span", { class: "note" }, names.join(" · ") || path),
      ),
      h("span", { class: "track-genre" }, swatch(this.genre[i]), this.kind(i)),
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
      for (let pause = PAUSE_MS; this.title.length < this.count; pause *= 2) {
        const { from, title, artist, album } = await get(
          `/api/library/names?since=${this.title.length}&wait=${WAIT_S}`,
          signal,
        );
        if (from !== this.title.length) return;
        this.title.push(...title);
        this.artist.push(...artist);
        this.album.push(...album);
        this.texts.length = from;
        title.forEach((_, i) => this.text(from + i)); // now: it is slow, and search is not to be
        if (title.length) this.rename();
        await new Promise((resolve) => setTimeout(resolve, Math.min(pause, MAX_PAUSE_MS)));
        if (signal.aborted) return;
      }
    } catch (error) {
      if (!signal.aborted && !(error instanceof Failure)) throw error; // paths serve as names
    }
  }

  rename() {
    for (const by of NAMED) this.orders.delete(by);
    if (this.search.value || NAMED.includes(this.sort.value)) this.find();
    this.redraw(Math.max(this.rows, PAGE));
  }

  async savePlaylist() {
    const words = [...this.genres].map(capital).join(", ") || this.search.value.trim();
    const name = words || (this.loop ? "From the map" : this.contents.name);
    this.saved.replaceChildren();
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
        this.saved.append(h("p", { class: "note", role: "status" }, text));
      }
    } catch (error) {
      this.saved.append(problem(error));
    }
  }
}

function plainSection() {
  const list = h("ul", { class: "tracks" });
  return { folder: null, element: list, list };
}

// What tracks share in a column; empty if they differ, or if most have nothing there.
function common(column, tracks) {
  const known = tracks.map((i) => column[i]).filter(Boolean);
  const isShared = 2 * known.length > tracks.length && known.every((one) => one === known[0]);
  return isShared ? known[0] : "";
}
