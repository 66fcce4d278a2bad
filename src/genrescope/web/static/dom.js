// Elements without markup in strings: what a file or a tag is named never becomes HTML.

/**
 * Make an element: `h("a", {class: "x", href: "#/", onclick: f}, "text", child)`.
 * `style` is an object of CSS properties; true and false set and leave out an attribute.
 * Children that are null, undefined or false are left out; arrays are flattened.
 */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an element of SVG in the same way. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

/** Give one of the icons of index.html. */
export function icon(name) {
  return s("svg", { class: "icon", "aria-hidden": "true" }, s("use", { href: `#icon-${name}` }));
}

/** Report something to screen readers. */
export function announce(text) {
  document.getElementById("status").textContent = text;
}

/** Copy text; also where the browser keeps its clipboard to secure pages, or from frames. */
async function copy(text) {
  try {
    return await navigator.clipboard.writeText(text);
  } catch {
    // The old way follows.
  }
  const field = h("textarea", { class: "hidden" });
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand("copy");
  field.remove();
}

/** Make a button that copies what `text()` returns, and says that it has. */
export function copyButton(text, label = "Copy") {
  const words = h("span", {}, label);
  const press = async () => {
    await copy(text());
    words.textContent = "Copied";
    announce("Copied");
    setTimeout(() => (words.textContent = label), 2000);
  };
  return h("button", { type: "button", class: "button", onclick: press }, icon("copy"), words);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") {
      for (const [property, to] of Object.entries(value)) element.style.setProperty(property, to);
    } else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false));
  return element;
}
