// What comes in: files, folders, drops anywhere on the page, and recordings.

import { announce, h, icon } from "./dom.js";
import { clock } from "./genres.js";

const AUDIO =
  /\.(aac|aif|aiff|ape|au|flac|m4a|m4b|mka|mp2|mp3|mp4|mpc|oga|ogg|opus|wav|weba|webm|wma|wv)$/i;
const BARS = 40; // of the level of a recording

/**
 * Make the panel that takes music.
 * `take` receives an array of files; `folded` makes it one line, under an answer.
 */
export function intake(config, take, { folded = false } = {}) {
  const panel = h("section", { class: folded ? "intake folded" : "intake", "aria-label": "Input" });
  const { megabytes, minutes, files: count } = config.limits;
  const picker = (attributes) => {
    const input = h("input", { type: "file", class: "hidden", tabindex: -1, ...attributes });
    input.addEventListener("change", () => {
      const files = [...input.files];
      input.value = "";
      give(input.hasAttribute("webkitdirectory") ? audible(files) : files);
    });
    return input;
  };
  const files = picker({ multiple: true, accept: "audio/*,video/*,.opus,.flac,.ape,.wv,.mpc" });
  const folder = picker({ webkitdirectory: true });
  files.setAttribute("aria-label", "Files");
  folder.setAttribute("aria-label", "Folder");
  const note = h("p", { class: "note problem", role: "alert", hidden: true });

  function give(found) {
    note.hidden = true;
    if (!found.length) {
      note.textContent = "There is no audio file in it. Try MP3, WAV, FLAC or M4A.";
      note.hidden = false;
      return;
    }
    if (found.length > count) announce(`Only the first ${count} files are taken.`);
    take(found.slice(0, count), found.length - Math.min(found.length, count));
  }

  const press = (input) => () => input.click();
  const button = (kind, name, words, onclick) =>
    h("button", { type: "button", class: `button ${kind}`, onclick }, icon(name), words);
  const buttons = h(
    "div",
    { class: "intake-buttons" },
    button("primary", "file", folded ? "Files" : "Choose files", press(files)),
    button("", "folder", folded ? "Folder" : "Choose a folder", press(folder)),
    canRecord() && button("", "record", "Record", record),
  );
  const rest = [
    h("div", { class: "intake-icon", "aria-hidden": "true" }, icon("drop")),
    h(
      "div",
      { class: "intake-words" },
      h(
        "p",
        { class: "intake-title" },
        h("span", { class: "for-mouse" }, folded ? "Drop more music here" : "Drop music here"),
        h("span", { class: "for-touch" }, folded ? "More music" : "Choose music"),
      ),
      !folded &&
        h(
          "p",
          { class: "note" },
          `A song, several or a folder: up to ${count} files of ${amount(megabytes, "MB")} or ` +
            `${amount(minutes, "minute")} each. MP3, WAV, FLAC, M4A and others.`,
        ),
    ),
    buttons,
  ];
  panel.append(...rest, files, folder, note);

  let recording = null;
  async function record() {
    note.hidden = true;
    try {
      recording = await recorder(minutes);
      panel.classList.add("recording");
      const stop = button("primary warm", "stop", "Stop and analyse", () => recording.stop());
      const discard = button("", "close", "Discard", () => recording.stop(true));
      panel.replaceChildren(
        recording.clock,
        recording.level,
        h("div", { class: "intake-buttons" }, stop, discard),
      );
      stop.focus();
      announce("Recording");
      const file = await recording.done;
      panel.classList.remove("recording");
      panel.replaceChildren(...rest, files, folder, note);
      if (file) give([file]);
      else buttons.lastChild.focus();
    } catch (error) {
      note.textContent =
        error.name === "NotFoundError"
          ? "No microphone was found. Connect one, or choose a file."
          : "The microphone may not be used. Allow it in the browser, or choose a file.";
      note.hidden = false;
    }
  }

  const undrop = dropping(give);
  const release = () => {
    undrop();
    recording?.stop(true);
  };
  return { element: panel, release };
}

function amount(number, unit) {
  return `${number}\u00a0${unit}${number === 1 || unit === "MB" ? "" : "s"}`;
}

function audible(files) {
  return files
    .filter((file) => AUDIO.test(file.name))
    .sort((a, b) => (a.webkitRelativePath || a.name).localeCompare(b.webkitRelativePath || b.name));
}

// Files may be dropped anywhere on the page. Returns what ends that.
function dropping(give) {
  const body = document.body;
  let depth = 0; // of the elements that have been entered
  const has = (event) => event.dataTransfer?.types.includes("Files");
  const handlers = {
    dragenter(event) {
      if (!has(event)) return;
      depth++;
      body.classList.add("dropping");
    },
    dragleave(event) {
      if (has(event) && --depth <= 0) handlers.end();
    },
    dragover(event) {
      if (has(event)) event.preventDefault();
    },
    async drop(event) {
      if (!has(event)) return;
      event.preventDefault();
      handlers.end();
      give(await dropped(event.dataTransfer));
    },
    end() {
      depth = 0;
      body.classList.remove("dropping");
    },
  };
  const names = ["dragenter", "dragleave", "dragover", "drop"];
  for (const name of names) window.addEventListener(name, handlers[name]);
  return () => {
    handlers.end();
    for (const name of names) window.removeEventListener(name, handlers[name]);
  };
}

// The files of a drop, and the audio files of the folders in it.
async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const found = await Promise.all(entries.map(within));
  return audible(found.flat());
}

async function within(entry) {
  if (entry.isFile) {
    return new Promise((resolve) =>
      entry.file(
        (file) => resolve([file]),
        () => resolve([]),
      ),
    );
  }
  const reader = entry.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (!some.length) return found; // a folder is read in parts
    for (const one of some) found.push(...(await within(one)));
  }
}

// Browsers record on secure pages only, and on this machine's own.
function canRecord() {
  return Boolean(navigator.mediaDevices?.getUserMedia && window.MediaRecorder);
}

async function recorder(minutes) {
  const stream = await navigator.mediaDevices.getUserMedia({
    audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
  });
  const media = new MediaRecorder(stream);
  const context = new AudioContext();
  const analyser = context.createAnalyser();
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  const time = h("p", { class: "recording-time", role: "timer" }, clock(0));
  const bars = Array.from({ length: BARS }, () => h("i"));
  const level = h("div", { class: "level", "aria-hidden": "true" }, bars);
  const begun = performance.now();
  const pieces = [];
  let discarded = false;

  const tick = setInterval(() => {
    const seconds = (performance.now() - begun) / 1000;
    time.textContent = clock(seconds);
    analyser.getFloatTimeDomainData(samples);
    const peak = samples.reduce((most, one) => Math.max(most, Math.abs(one)), 0);
    level.append(level.firstChild); // the oldest becomes the newest
    level.lastChild.style.setProperty("height", `${8 + 92 * Math.min(1, peak ** 0.5)}%`);
    if (seconds > 60 * minutes - 1) media.stop();
  }, 80);

  const done = new Promise((resolve) => {
    media.ondataavailable = (event) => pieces.push(event.data);
    media.onstop = () => {
      clearInterval(tick);
      context.close();
      for (const track of stream.getTracks()) track.stop();
      const kind = media.mimeType.split(";")[0];
      const name = `Recording.${kind.includes("mp4") ? "m4a" : kind.split("/")[1]}`;
      resolve(discarded ? null : new File(pieces, name, { type: kind }));
    };
  });
  media.start();
  const stop = (discard = false) => {
    discarded = discard;
    if (media.state !== "inactive") media.stop();
  };
  return { clock: time, level, done, stop };
}
