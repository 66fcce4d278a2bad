// What the browser keeps from one visit to the next. In a frame of another site, it may keep nothing.

/** Give the text that was kept under a name, or null. */
export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

/** Keep a value as text. */
export function keep(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // It lasts until the page is reloaded.
  }
}
