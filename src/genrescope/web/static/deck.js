// The library's player: one sound at a time, in a bar that stays at the foot of the window.

import { announce, h, icon } from "./dom.js";
import { clock, percent, swatch } from "./genres.js";
import { loudness, play, setLoudness, silence, sound } from "./player.js";

/**
 * Make a player of the library's tracks. `name(number)` gives a track's title, `genre(number)` its
 * genre or null; `onchange(number)` receives the track that plays, or null. With
 * `beside(number, by)`, the track `by` places after one (undefined if there is none), it can go to
 * the previous and the next, also by the keyboard's and the phone's own keys, and plays on at the
 * end of each. The title leads to the track's answer.
 */
export function deck(name, genre, onchange = () => {}, beside = null) {
  let audio = null;
  let current = null;
  const toggle = h("button", { type: "button", class: "play", onclick: () => press(current) });
  const title = h("a", { class: "deck-title" });
  const time = h("span", { class: "time" });
  const seek = h("input", { type: "range", class: "seek", min: 0, max: 0, step: "any", value: 0 });
  seek.setAttribute("aria-label", "Position");
  const step = (by, kind, words) => {
    const onclick = () => go(by);
    const label = `${words} track`;
    const attributes = { type: "button", class: `button bare ${kind}`, "aria-label": label };
    return h("button", { ...attributes, title: label, onclick }, icon(kind));
  };
  const previous = beside && step(-1, "previous", "Previous");
  const next = beside && step(1, "next", "Next");
  const close = h(
    "button",
    { type: "button", class: "button bare", "aria-label": "Close the player", onclick: stop },
    icon("close"),
  );
  const element = h(
    "section",
    { class: "deck", "aria-label": "Player", hidden: true },
    h("div", { class: "wide" }, previous, toggle, next, title, seek, time, volume(), close),
  );
  seek.addEventListener("input", () => {
    if (audio) audio.currentTime = Number(seek.value);
  });

  function draw() {
    if (audio === null) return; // a sound that has been left may still report that it is paused
    const on = !audio.paused && !audio.error;
    toggle.replaceChildren(icon(on ? "pause" : "play"));
    toggle.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${name(current)}`);
    onchange(on ? current : null);
  }

  /** Play the track `by` places after the one that plays, if there is one. */
  function go(by) {
    const number = beside(current, by);
    if (number !== undefined) press(number);
  }

  /** Show what is beside the track that plays; to be called when that has changed. */
  function update() {
    if (!beside || current === null) return;
    previous.disabled = beside(current, -1) === undefined;
    next.disabled = beside(current, 1) === undefined;
  }

  function tick() {
    if (!audio) return;
    const length = Number.isFinite(audio.duration) ? audio.duration : 0;
    seek.max = length;
    seek.value = audio.currentTime;
    seek.setAttribute("aria-valuetext", `${clock(audio.currentTime)} of ${clock(length)}`);
    time.textContent = `${clock(audio.currentTime)} / ${clock(length)}`;
  }

  /** Play a track, or pause the one that plays. */
  function press(number) {
    if (number === current && audio) {
      if (audio.paused) play(audio);
      else audio.pause();
      return;
    }
    stop();
    current = number;
    audio = sound(`/api/library/tracks/${number}/audio`);
    const mine = audio;
    for (const change of ["play", "pause", "ended"]) audio.addEventListener(change, draw);
    for (const change of ["timeupdate", "durationchange"]) audio.addEventListener(change, tick);
    if (beside) audio.addEventListener("ended", () => mine === audio && go(1));
    let tried = false;
    audio.addEventListener("error", () => {
      if (mine !== audio) return;
      if (tried) {
        title.replaceChildren(`${name(number)}: cannot be played`);
        announce(`${name(number)} cannot be played`);
        draw();
        return;
      }
      tried = true; // the browser does not know this format
      audio.src = `/api/library/tracks/${number}/audio?convert=true`;
      play(audio);
    });
    title.replaceChildren(swatch(genre(number)), name(number));
    title.href = `#/track/${number}`;
    element.hidden = false;
    update();
    if (beside) {
      setKeys({ title: name(number) }, { previoustrack: () => go(-1), nexttrack: () => go(1) });
    }
    tick();
    play(audio);
  }

  function stop() {
    silence();
    if (audio) audio.removeAttribute("src"); // ends the download
    audio = null;
    current = null;
    element.hidden = true;
    if (beside) setKeys(null, { previoustrack: null, nexttrack: null });
    onchange(null);
  }

  return {
    element,
    press,
    stop,
    update,
    /** Give the track that plays or is paused, or null. */
    current: () => current,
    /** Give the track that plays, or null. */
    playing: () => (audio?.paused === false && !audio.error ? current : null),
  };
}

// A button that mutes, and how loud it is otherwise.
function volume() {
  const mute = h("button", { type: "button", class: "button bare", onclick: press });
  const slider = h("input", { type: "range", min: 0, max: 1, step: 0.05, "aria-label": "Volume" });
  const isSilent = () => loudness.muted || loudness.volume === 0;
  function draw() {
    const words = isSilent() ? "Unmute" : "Mute";
    mute.replaceChildren(icon(isSilent() ? "muted" : "volume"));
    mute.setAttribute("aria-label", words);
    mute.title = words;
    slider.value = isSilent() ? 0 : loudness.volume;
    slider.setAttribute("aria-valuetext", isSilent() ? "muted" : percent(loudness.volume));
  }
  function press() {
    setLoudness(loudness.volume || 1, !isSilent());
    draw();
  }
  slider.addEventListener("input", () => {
    setLoudness(Number(slider.value), false);
    draw();
  });
  draw();
  return h("div", { class: "volume" }, mute, slider);
}

// What the system shows of the sound, and what its keys for media do.
function setKeys(about, keys) {
  const session = navigator.mediaSession;
  if (!session) return;
  session.metadata = about && new MediaMetadata(about);
  for (const [action, press] of Object.entries(keys)) session.setActionHandler(action, press);
}

/** Make a small button that plays a track; `deck.press` is called with its number. */
export function trackButton(number, name, press) {
  const button = h("button", { type: "button", class: "play small", "data-track": number });
  button.addEventListener("click", () => press(number));
  button.dataset.name = name;
  setPlaying(button, false);
  return button;
}

/** Show on every button below an element which track plays. */
export function markPlaying(element, number) {
  for (const button of element.querySelectorAll("[data-track]")) {
    const on = Number(button.dataset.track) === number;
    if (on !== (button.dataset.on === "true")) setPlaying(button, on);
  }
}

/** Show on a button, with the `data-name` of what it plays, whether that plays. */
export function setPlaying(button, on) {
  button.dataset.on = on;
  button.replaceChildren(icon(on ? "pause" : "play"));
  button.setAttribute("aria-label", `${on ? "Pause" : "Play"} ${button.dataset.name}`);
}
