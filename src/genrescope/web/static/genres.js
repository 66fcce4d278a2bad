// What a genre looks like everywhere, and the one way to write a number.

import { h } from "./dom.js";

const PALETTE = 10; // colours of style.css
const TURN = 137.5; // degrees between the hues of further genres
const ROUNDED = 0.999; // texts have two digits, plans three, and no genre is certain
let known = [];

/** Fix the colours of the model's genres, in their order. */
export function setGenres(genres) {
  known = genres;
  const sheet = document.styleSheets[0];
  for (let i = PALETTE; i < genres.length; i++) {
    const hue = (i * TURN) % 360;
    const colours = `light-dark(oklch(0.55 0.13 ${hue}), oklch(0.75 0.12 ${hue}))`;
    sheet.insertRule(`.genre-${i} { --genre: ${colours}; }`, sheet.cssRules.length);
  }
}

/** Give the class that sets `--genre` to a genre's colour. */
export function genreClass(genre) {
  const i = known.indexOf(genre);
  return i < 0 ? "genre-none" : `genre-${i}`;
}

/** Give a genre's colour in the present theme, as `rgb(…)`, for a canvas. */
export function colour(genre) {
  const probe = h("i", { class: `swatch hidden ${genreClass(genre)}` });
  document.body.append(probe);
  const found = getComputedStyle(probe).backgroundColor;
  probe.remove();
  return found;
}

/** Give a patch of a genre's colour. */
export function swatch(genre) {
  return h("i", { class: `swatch ${genreClass(genre)}`, "aria-hidden": "true" });
}

/** Write a probability in [0, 1] as a percentage: "62 %", "<1 %", ">99 %". */
export function percent(share) {
  const whole = Math.round(100 * share);
  const text = whole < 1 ? "<1" : whole > 99 && share < 1 ? ">99" : String(whole);
  return `${text}\u00a0%`;
}

/** Write the probabilities in a text, such as 0.49, as percentages. */
export function inPercent(text) {
  return text.replace(/\b[01]\.\d\d\b/g, (share) => percent(Math.min(share, ROUNDED)));
}

/** Write a number of things: "1 file", "1,200 files". */
export function plural(count, noun) {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}

/** Write a time in s: "1:24". */
export function clock(seconds) {
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** Write a name as the start of a line: "Classical". */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const LEVELS = { sure: "sure", likely: "likely", unsure: "unsure", none: "none of these" };

/** Give the chip of how certain an answer is; `level` as in `confidence_level`. */
export function chip(level) {
  return h("span", { class: `chip ${level}` }, LEVELS[level]);
}
