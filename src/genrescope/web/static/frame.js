// What the library's views have in common: their styles, and errors.

import { Failure } from "./api.js";
import { h } from "./dom.js";

/** Load the styles of the library's views once. */
export function styled(element) {
  if (document.querySelector('link[href="/static/library.css"]')) return;
  // Nothing is drawn without them: it would jump.
  const sheet = h("link", { rel: "stylesheet", href: "/static/library.css" });
  element.style.setProperty("visibility", "hidden");
  const done = () => element.style.removeProperty("visibility");
  sheet.addEventListener("load", done);
  sheet.addEventListener("error", done);
  document.head.append(sheet);
}

/** Show an error in words. */
export function problem(error) {
  if (!(error instanceof Failure)) throw error;
  return failure(error);
}

/** Show in words what went wrong: `title`, `remedy` and, if it says more, `detail`. */
export function failure({ title, remedy, detail }) {
  const more = detail && !detail.startsWith(title) ? detail : null;
  return h(
    "div",
    { class: "panel problem", role: "alert" },
    h("p", {}, h("strong", {}, `${title.replace(/\.$/, "")}.`), " ", remedy),
    more && h("p", { class: "note" }, more),
  );
}
