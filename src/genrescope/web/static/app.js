// The frame of the page: pages by the address's hash, their links, and light or dark.

import { get } from "./api.js";
import { h, icon } from "./dom.js";
import { setGenres } from "./genres.js";
import * as listen from "./listen.js";
import { keep, recall } from "./storage.js";

// A view has show(element, config, rest), where rest is what follows its name in the hash, and
// hide(). Those that few people open are fetched when they do.
const VIEWS = {
  "": async () => listen.start,
  answer: async () => listen.one,
  sending: async () => listen.sending,
  answers: async () => listen.several,
  track: async () => listen.track,
  library: () => import("./library.js"),
  review: () => import("./review.js"),
  study: () => import("./study.js"),
  programs: () => import("./programs.js"),
};
const NOWHERE = {
  show(element) {
    document.title = "No such page · genrescope";
    element.append(
      h("h1", {}, "There is no such page"),
      h("p", { class: "lead" }, "The links above lead to all that this server offers."),
    );
  },
  hide() {},
};
const LOST = {
  show(element) {
    document.title = "No answer · genrescope";
    element.append(
      h("h1", {}, "The server does not answer"),
      h("p", { class: "lead", role: "alert" }, "Start it again, then reload this page."),
    );
  },
  hide() {},
};
const LISTENING = ["", "sending", "answer", "answers", "track"];
const THEMES = ["auto", "light", "dark"];

const main = document.getElementById("main");
let config = null;
let shown = null;

function links() {
  return [
    ["", "Listen", true],
    ["library", "Library", config.library],
    ["review", "Review", config.library?.writing],
    ["study", "Study", config.report],
    ["programs", "For programs", true],
  ].filter(([, , there]) => there);
}

async function route() {
  const [, name, rest] = location.hash.match(/^#?\/?([^/]*)\/?(.*)$/);
  const known = LISTENING.includes(name) || links().some(([there]) => there === name);
  const hash = location.hash;
  const view = known ? await VIEWS[name]().catch(() => LOST) : NOWHERE;
  if (location.hash !== hash) return; // somebody went on while it was fetched
  const isFirst = shown === null;
  shown?.hide();
  shown = view;
  main.replaceChildren();
  if (!isFirst) {
    main.focus({ preventScroll: true });
    window.scrollTo(0, 0); // a view that was left and is shown again may scroll back to its place
  }
  const current = LISTENING.includes(name) ? "" : name;
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.dataset.view === current);
    if (link.dataset.view === current) link.setAttribute("aria-current", "page");
  }
  view.show(main, config, rest);
}

function theme() {
  const button = document.querySelector(".theme");
  const set = (name) => {
    document.documentElement.dataset.theme = name;
    const words = name === "auto" ? "as the system" : name;
    button.replaceChildren(icon(`theme-${name}`));
    button.setAttribute("aria-label", `Colours: ${words}`);
    button.title = `Colours: ${words}`;
  };
  let name = recall("theme");
  if (!THEMES.includes(name)) name = "auto";
  set(name);
  button.addEventListener("click", () => {
    name = THEMES[(THEMES.indexOf(name) + 1) % THEMES.length];
    keep("theme", name);
    set(name);
  });
}

async function begin() {
  theme();
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the hash is the page's address
    main.focus();
  });
  try {
    config = await get("/api/page");
  } catch (error) {
    main.append(h("h1", {}, error.title), h("p", {}, error.remedy));
    return;
  }
  setGenres(config.genres);
  const items = links().map(([name, words]) =>
    h("a", { href: `#/${name}`, "data-view": name }, words),
  );
  document.querySelector("nav").append(...items);
  document.querySelector(".version").textContent = `genrescope ${config.version}`;
  document.querySelector(".keep").textContent = config.limits.keep_minutes;
  window.addEventListener("hashchange", route);
  await route();
}

begin();
