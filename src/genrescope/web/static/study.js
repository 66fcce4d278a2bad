// The report of a study, in the page's own type and colours.

import { Failure } from "./api.js";
import { h } from "./dom.js";

// What a report may bring: no script, style, form or frame, and no address that is code.
const ELEMENTS = new Set(
  (
    "a abbr b blockquote br caption code col colgroup dd div dl dt em figcaption figure footer h1 h2 " +
    "h3 h4 header hr i img li ol p pre section small span strong sub sup table tbody td tfoot th " +
    "thead tr ul"
  ).split(" "),
);
const ATTRIBUTES = new Set(
  "alt aria-label class colspan id role rowspan scope start tabindex title".split(" "),
);
const PICTURE = /^data:image\/(svg\+xml|png);base64,/;
const WEB = /^https?:\/\//;

let stop = null;

/** Show the report that the server was started with. */
export async function show(element, config) {
  document.title = "Study · genrescope";
  stop = new AbortController();
  const report = h("div", { class: "report", "aria-busy": "true" });
  element.append(report);
  try {
    const response = await fetch(config.report, { signal: stop.signal });
    if (!response.ok) throw new Failure(response.status);
    // Its own style would only be reported as a breach of the policy.
    const text = (await response.text()).replace(/<style[^>]*>[^]*?<\/style>/g, "");
    const read = new DOMParser().parseFromString(text, "text/html");
    const base = new URL(config.report, location.href);
    report.append(
      ...["main", "body > footer"].flatMap((part) => content(read.querySelector(part), base)),
    );
    explain(report);
    for (const paper of report.querySelectorAll("section > figure > .paper")) {
      paper.tabIndex = 0; // where the screen is narrow, it scrolls
      paper.setAttribute("role", "region");
      const heading = paper.closest("section").querySelector("h2");
      paper.setAttribute("aria-label", `Figure: ${heading?.textContent ?? "study"}`);
    }
    document.title = `${report.querySelector("h1")?.textContent ?? "Study"} · genrescope`;
  } catch (error) {
    if (error.name === "AbortError") return;
    report.append(
      h("h1", {}, "The report cannot be shown"),
      h("p", { role: "alert" }, "Check the folder that the server was started with (--report)."),
    );
  }
  report.removeAttribute("aria-busy");
}

/** Leave the report. */
export function hide() {
  stop?.abort();
}

// The children of an element, made anew of what is allowed.
function content(element, base) {
  if (!element) return [];
  return [...element.childNodes].flatMap((node) => {
    if (node.nodeType === Node.TEXT_NODE) return [node.textContent];
    if (node.nodeType !== Node.ELEMENT_NODE || !ELEMENTS.has(node.localName)) return [];
    const attributes = {};
    for (const { name, value } of node.attributes)
      if (ATTRIBUTES.has(name)) attributes[name] = value;
    if (attributes.id) attributes.id = `report-${attributes.id}`; // the page has its own
    if (node.localName === "a")
      Object.assign(attributes, link(node.getAttribute("href") ?? "", base));
    if (node.localName === "img") {
      const source = node.getAttribute("src") ?? "";
      attributes.src = PICTURE.test(source) ? source : inside(source, base);
      return [h("span", { class: "paper scroll" }, h("img", attributes))];
    }
    return [h(node.localName, attributes, content(node, base))];
  });
}

function link(href, base) {
  if (href.startsWith("#")) {
    // The hash is the page's address: its own places are scrolled to.
    const target = `report-${href.slice(1)}`;
    const onclick = (event) => {
      event.preventDefault();
      const place = document.getElementById(target);
      if (!place) return;
      history.pushState(null, "", location.hash); // back leads to where the link is
      place.tabIndex = -1;
      place.focus({ preventScroll: true });
      place.scrollIntoView();
    };
    return { href: location.hash, onclick };
  }
  if (WEB.test(href)) return { href, rel: "noreferrer" };
  return { href: inside(href, base) };
}

// The address of another file of the report, or null.
function inside(path, base) {
  if (!URL.canParse(path, base)) return null;
  const address = new URL(path, base);
  const folder = new URL(".", base);
  return address.href.startsWith(folder.href) ? address.href : null;
}

// The report lists its protocols: `name`, a mark, ": what it is". Wherever else one is named, that
// is shown with it.
function explain(report) {
  const about = new Map();
  for (const item of report.querySelectorAll("li")) {
    const name = item.firstChild;
    if (name?.localName !== "code" || !item.querySelector(".mark")) continue;
    const text = item.textContent;
    about.set(name.textContent, text.slice(text.indexOf(":") + 1).trim());
  }
  if (!about.size) return;
  const tip = h("div", { class: "tip", "aria-hidden": "true", hidden: true });
  report.append(tip);
  const moved = { capture: true, passive: true, signal: stop.signal };
  document.addEventListener("scroll", () => (tip.hidden = true), moved); // it would stay behind
  for (const code of report.querySelectorAll("code")) {
    if (code.parentElement.localName !== "li") term(code, about.get(code.textContent), tip);
  }
  for (const head of report.querySelectorAll(".group th")) {
    const [text] = head.childNodes; // "grouped " or "grouped, best: knn "
    const [name] = text.textContent.split(/[\s,]/, 1);
    if (!about.has(name)) continue;
    const named = h("span", {}, name);
    text.replaceWith(named, text.textContent.slice(name.length));
    term(named, about.get(name), tip);
  }
}

// Make a word show a text when it is pointed at or focused.
function term(word, text, tip) {
  if (!text) return;
  word.classList.add("term");
  word.tabIndex = 0;
  word.setAttribute("role", "note");
  word.setAttribute("aria-label", `${word.textContent}: ${text}`);
  const close = () => (tip.hidden = true);
  const open = () => {
    tip.textContent = text;
    tip.hidden = false;
    const box = word.getBoundingClientRect();
    const left = Math.min(box.left, window.innerWidth - tip.offsetWidth - 16);
    const above = box.top - tip.offsetHeight - 8;
    tip.style.setProperty("left", `${Math.max(left, 16)}px`);
    tip.style.setProperty("top", `${above > 0 ? above : box.bottom + 8}px`);
  };
  for (const event of ["mouseenter", "focus"]) word.addEventListener(event, open);
  for (const event of ["mouseleave", "blur"]) word.addEventListener(event, close);
  word.addEventListener("keydown", (event) => event.key === "Escape" && close());
}
