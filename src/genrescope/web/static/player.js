// The timeline of an answer: sound, spectrogram, the genre over time, and where it is played.

import { Failure, begin, follow } from "./api.js";
import { announce, h, icon, s } from "./dom.js";
import { problem } from "./frame.js";
import { clock, genreClass, percent, swatch } from "./genres.js";
import { keep, recall } from "./storage.js";

const HEIGHT = 100; // of the strip's and the explanation's drawing, in their own units
const LENGTH = 1000;
const SMOOTH = 60; // a strip of more steps than this is smoothed to about as many
const KEYS = { ArrowLeft: -5, ArrowRight: 5, ArrowDown: -5, ArrowUp: 5, PageDown: -30, PageUp: 30 };
const LABELS_HZ = [250, 1000, 4000];
const LAYERS = 16; // of the strip; a model may have a thousand genres
const IN_LEGEND = 0.02; // a genre with a smaller share of the whole has no entry

let playing = null; // one sound at a time
const kept = Number(recall("volume") ?? 1);
/** How loud sounds are: `volume` in [0, 1], and `muted`. */
export const loudness = {
  volume: kept >= 0 && kept <= 1 ? kept : 1,
  muted: recall("muted") === "true",
};

/** Make a round button that plays and pauses what `sound()` returns; `name` is read aloud. */
export function playButton(sound, name) {
  let audio = null;
  const button = h("button", { type: "button", class: "play" });
  const set = () => {
    const on = audio !== null && !audio.paused && !audio.error;
    button.replaceChildren(icon(on ? "pause" : "play"));
    button.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${name}`);
  };
  button.addEventListener("click", () => {
    if (audio === null) {
      audio = sound();
      for (const change of ["play", "pause", "ended"]) audio.addEventListener(change, set);
      audio.addEventListener("error", () => {
        set();
        button.disabled = true;
        button.title = "This sound is no longer kept, or the server does not answer";
        announce(button.title);
      });
    }
    if (audio.paused) play(audio);
    else audio.pause();
  });
  set();
  return button;
}

/** Set how loud the sound that plays is, and all that follow. */
export function setLoudness(volume, muted) {
  Object.assign(loudness, { volume, muted });
  keep("volume", volume);
  keep("muted", muted);
  if (playing) Object.assign(playing, loudness);
}

/** Play a sound, and pause the one that plays. */
export function play(audio) {
  if (playing !== audio) playing?.pause();
  playing = Object.assign(audio, loudness);
  audio.play().catch(() => {}); // paused again before it began; a lost file fires "error"
}

/** Stop whatever plays, as another view is shown. */
export function silence() {
  playing?.pause();
  playing = null;
}

/** Make a sound of an address, which is fetched only when it is played. */
export function sound(address) {
  const audio = new Audio();
  audio.preload = "none";
  audio.src = address;
  return audio;
}

/**
 * Make the timeline of an answer, as `/api/answers` gives it.
 * `name` is what the sound is called.
 */
export function player(answer, name) {
  const { seconds } = answer;
  const strip = answer.timeline && new Strip(answer.timeline, seconds);
  const audio = sound(answer.links.audio);
  let position = 0;

  const readout = h("span", { class: "readout" });
  const time = h("span", { class: "time" });
  const head = h("div", { class: "playhead" });
  const line = h("div", { class: "hover", hidden: true });
  const why = explanation(answer);
  const stage = h(
    "div",
    {
      class: "stage",
      role: "slider",
      tabindex: 0,
      "aria-label": `Position in ${name}`,
      "aria-valuemin": 0,
      "aria-valuemax": Math.round(seconds),
    },
    answer.links.spectrogram // a clip may be too short for one
      ? h("img", { class: "mel", src: answer.links.spectrogram, alt: "", draggable: "false" })
      : h("div", { class: "mel" }),
    why?.drawing,
    frequencies(answer.spectrogram),
    strip?.drawing(),
    line,
    head,
  );

  const describe = (at) => [clock(at), strip?.words(at)].filter(Boolean).join(", ");
  const set = (at) => {
    position = Math.min(Math.max(at, 0), seconds);
    head.style.setProperty("left", `${(100 * position) / seconds}%`);
    time.textContent = `${clock(position)} / ${clock(seconds)}`;
    readout.textContent = strip?.words(position) ?? "";
    stage.setAttribute("aria-valuenow", Math.round(position));
    stage.setAttribute("aria-valuetext", describe(position));
  };
  const seek = (at) => {
    set(at);
    audio.currentTime = position;
  };
  const at = (event) => {
    const box = stage.getBoundingClientRect();
    return (seconds * (event.clientX - box.left)) / box.width;
  };

  stage.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    stage.setPointerCapture(event.pointerId);
    seek(at(event));
  });
  stage.addEventListener("pointermove", (event) => {
    if (event.buttons && stage.hasPointerCapture(event.pointerId)) seek(at(event));
    const over = Math.min(Math.max(at(event), 0), seconds);
    line.hidden = false;
    line.style.setProperty("left", `${(100 * over) / seconds}%`);
    line.dataset.text = describe(over);
    line.classList.toggle("left", over > seconds / 2);
  });
  stage.addEventListener("pointerleave", () => (line.hidden = true));
  stage.addEventListener("keydown", (event) => {
    if (event.key === " ") button.click();
    else if (event.key === "Home") seek(0);
    else if (event.key === "End") seek(seconds);
    else if (event.key in KEYS) seek(position + KEYS[event.key]);
    else return;
    event.preventDefault();
  });

  const follow = () => {
    if (!audio.seeking) set(audio.currentTime);
    if (!audio.paused && stage.isConnected) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", follow);
  audio.addEventListener("ended", () => set(seconds));
  const button = playButton(() => audio, name);
  set(0);

  return h(
    "figure",
    { class: "player" },
    h(
      "div",
      { class: "player-bar" },
      button,
      h(
        "div",
        { class: "moment" },
        h("span", { class: "note" }, time, strip && " · this moment"),
        readout,
      ),
      why?.button,
    ),
    stage,
    ticks(seconds),
    why?.legend,
    strip?.legend(),
    strip && h("figcaption", { class: "hidden" }, `Genre over time: ${strip.description()}.`),
  );
}

// The genres over time, stacked, the strongest of the whole at the bottom.
class Strip {
  constructor(timeline, seconds) {
    this.seconds = seconds;
    this.genres = timeline.genres;
    this.step = Math.min(timeline.step_s ?? seconds, seconds);
    const none = this.genres.map(() => 0);
    const rows = timeline.probabilities.map((row) => row ?? none);
    this.silent = timeline.probabilities.map((row) => row === null);
    this.rows = smooth(rows, Math.ceil(rows.length / SMOOTH));
    const sounding = Math.max(this.silent.filter((one) => !one).length, 1);
    this.means = this.genres.map((_, i) => rows.reduce((sum, row) => sum + row[i], 0) / sounding);
    const order = this.genres.map((_, i) => i).sort((a, b) => this.means[b] - this.means[a]);
    this.order = order.slice(0, LAYERS);
  }

  index(at) {
    return Math.min(Math.floor(at / this.step), this.rows.length - 1);
  }

  words(at) {
    const i = this.index(at);
    if (this.silent[i]) return "silence";
    const best = this.best(i);
    return `${this.genres[best]} ${percent(this.rows[i][best])}`;
  }

  best(i) {
    return this.rows[i].indexOf(Math.max(...this.rows[i]));
  }

  // In words, for those who do not see it: stretches of the same genre.
  description() {
    const stretches = [];
    for (let i = 0; i < this.rows.length; i++) {
      const genre = this.silent[i] ? "silence" : this.genres[this.best(i)];
      const end = Math.min((i + 1) * this.step, this.seconds);
      const last = stretches.at(-1);
      if (last?.genre === genre) last.end = end;
      else stretches.push({ genre, start: i * this.step, end });
    }
    const said = stretches
      .slice(0, 12)
      .map(({ genre, start, end }) => `${genre} from ${clock(start)} to ${clock(end)}`);
    if (stretches.length > 12) said.push(`and ${stretches.length - 12} more changes`);
    return said.join("; ");
  }

  drawing() {
    const centres = this.rows.map((_, i) => (i + 0.5) * this.step);
    const x = [0, ...centres, this.seconds].map((t) => LENGTH * Math.min(t / this.seconds, 1));
    const first = (values) => [values[0], ...values, values.at(-1)];
    let below = x.map(() => 0);
    const layers = this.order.map((genre) => {
      const above = first(this.rows.map((row) => row[genre])).map((share, i) => below[i] + share);
      const top = x.map((place, i) => point(place, above[i]));
      const bottom = x.map((place, i) => point(place, below[i])).reverse();
      below = above;
      const path = `M${[...top, ...bottom].join("L")}Z`;
      return s("path", { class: genreClass(this.genres[genre]), d: path });
    });
    const box = { viewBox: `0 0 ${LENGTH} ${HEIGHT}`, preserveAspectRatio: "none" };
    return s("svg", { class: "strip", "aria-hidden": "true", ...box }, layers);
  }

  legend() {
    const named = this.order.filter((i) => this.means[i] >= IN_LEGEND);
    const entries = named.map((i) => h("li", {}, swatch(this.genres[i]), this.genres[i]));
    return h("ul", { class: "legend", "aria-label": "Colours of the strip" }, entries);
  }
}

// A moving mean over `width` steps to each side's half.
function smooth(rows, width) {
  if (width < 2) return rows;
  const half = Math.floor(width / 2);
  return rows.map((_, i) => {
    const near = rows.slice(Math.max(0, i - half), i + half + 1);
    return rows[i].map((_, genre) => near.reduce((sum, row) => sum + row[genre], 0) / near.length);
  });
}

function point(x, share) {
  return `${x.toFixed(1)} ${(HEIGHT * (1 - Math.min(share, 1))).toFixed(2)}`;
}

// Marks of the time axis: every 30 s, or as far from each other as leaves room.
function ticks(seconds) {
  const step = [1, 2, 5, 10, 30, 60, 120, 300, 600].find((one) => seconds / one <= 8) ?? 1800;
  const marks = [];
  for (let at = 0; at <= seconds; at += step) {
    const near = at > 0.95 * seconds; // the end, beyond which there is no room
    const place = near ? { right: 0 } : { left: `${(100 * at) / seconds}%` };
    marks.push(h("span", { class: !near && at > 0 && "centred", style: place }, clock(at)));
  }
  return h("div", { class: "ticks", "aria-hidden": "true" }, marks);
}

// Where a frequency lies on the picture, from the edges of its bands: 0 at the bottom, 1 at the top.
function height(edges, hz) {
  const above = edges.findIndex((edge) => edge >= hz);
  if (above <= 0) return above < 0 ? 1 : 0;
  const [low, high] = [edges[above - 1], edges[above]];
  return (above - 1 + (hz - low) / (high - low)) / (edges.length - 1);
}

function frequencies(spectrogram) {
  const marks = LABELS_HZ.map((hz) => {
    const place = { bottom: `${100 * height(spectrogram.bands_hz, hz)}%` };
    return h("span", { style: place }, hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`);
  });
  return h("div", { class: "frequencies", "aria-hidden": "true" }, marks);
}

// The seconds and frequencies that the answer rests on, over the picture, once it is asked for.
function explanation(answer) {
  const address = answer.links.explanation;
  if (!address) return null;
  const box = { viewBox: `0 0 ${LENGTH} ${HEIGHT}`, preserveAspectRatio: "none" };
  const drawing = s("svg", { class: "why", "aria-hidden": "true", ...box });
  const legend = h(
    "ul",
    { class: "legend", hidden: true, "aria-label": "What the answer rests on" },
    h("li", {}, h("i", { class: "swatch for" }), `makes ${answer.best} more probable`),
    h("li", {}, h("i", { class: "swatch against" }), `makes ${answer.best} less probable`),
  );
  const button = h(
    "button",
    { type: "button", class: "button small", "aria-pressed": "false", onclick: press },
    "Why?",
  );
  const show = (on) => {
    button.setAttribute("aria-pressed", on);
    legend.hidden = !on;
    drawing.parentElement.classList.toggle("explained", on);
  };
  let asked = null;
  async function press() {
    if (button.getAttribute("aria-pressed") === "true") return show(false);
    if (button.getAttribute("aria-busy") === "true") return;
    button.closest(".player").querySelector(".problem")?.remove();
    asked ??= find();
    try {
      await asked;
      if (drawing.isConnected) show(true);
    } catch (error) {
      asked = null; // pressed again, it is asked for again
      if (drawing.isConnected) legend.before(problem(error));
    }
  }
  async function find() {
    button.setAttribute("aria-busy", "true");
    button.textContent = "Finding out …";
    announce("Finding out what the answer rests on");
    try {
      const { id } = await begin(address);
      const { error, answer: why } = await follow(`/api/answers/${id}`, () => {});
      if (!why) throw new Failure(422, error ?? undefined);
      drawing.replaceChildren(...cells(why, answer));
      announce("What the answer rests on is shown on the spectrogram");
    } finally {
      button.removeAttribute("aria-busy");
      button.textContent = "Why?";
    }
  }
  return { drawing, legend, button };
}

function cells(why, answer) {
  const most = Math.max(...why.drops.flat().map(Math.abs), 1e-9);
  const x = why.times_s.map((t) => LENGTH * Math.min(t / answer.seconds, 1));
  const y = why.bands_hz.map((hz) => HEIGHT * (1 - height(answer.spectrogram.bands_hz, hz)));
  return why.drops.flatMap((row, i) =>
    row.map((drop, j) =>
      s("rect", {
        class: drop > 0 ? "for" : "against",
        x: x[i],
        y: y[j + 1],
        width: x[i + 1] - x[i],
        height: y[j] - y[j + 1],
        opacity: (0.85 * Math.abs(drop)) / most,
      }),
    ),
  );
}
