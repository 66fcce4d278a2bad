// The map of the library: a dot for each track, near the tracks that sound like it.

import { h } from "./dom.js";
import { colour } from "./genres.js";

const MARGIN = 16; // px around the dots
const REACH = 14; // px: how near to a dot a pointer chooses it
const ZOOM = 1.3;
const MAX_ZOOM = 64;
const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Make the map. `x` and `y` are places in [0, 1], `genres` each track's genre or null.
 * `onpick(number)` receives a track that was clicked, `onlasso(set)` those inside a loop, or null;
 * `name(number)` is read aloud and shown at the pointer.
 */
export function map({ x, y, genres, name, onpick, onlasso }) {
  const canvas = h("canvas", {
    class: "map-dots",
    tabindex: 0,
    role: "application",
    "aria-roledescription": "map",
    "aria-label":
      `Map of ${x.length} tracks by sound. Arrow keys go from track to track, Enter plays, ` +
      "plus and minus zoom. The list beside it has the same tracks.",
  });
  const hint = h("div", { class: "map-hint", hidden: true });
  const said = h("div", { class: "hidden", role: "status" });
  const context = canvas.getContext("2d");
  let shown = null; // a Set of numbers, or null for all
  let playing = null;
  let at = null; // the track under the pointer or the keys
  let view = { zoom: 1, x: 0.5, y: 0.5 }; // the place in the middle
  let loop = null; // the points of the lasso, in px
  let drag = null;
  let lassoing = false;
  let colours = new Map();
  let frame = 0;
  let stale = true;
  const layer = h("canvas", {});

  // In px; the canvas's size is asked for only when it changes, not for each of many dots.
  let [wide, high] = [0, 0];
  const side = () => (Math.min(wide, high) - 2 * MARGIN) * view.zoom;
  const left = (i) => wide / 2 + (x[i] - view.x) * side();
  const top = (i) => high / 2 + (y[i] - view.y) * side();
  const isShown = (i) => shown === null || shown.has(i);

  function resolve() {
    colours = new Map([...new Set(genres)].map((genre) => [genre, colour(genre)]));
    const style = getComputedStyle(canvas);
    colours.set("ring", style.color);
    redraw({ dots: true });
  }

  // The dots are drawn when they have changed; what is over them at every move of the pointer.
  function redraw({ dots = false } = {}) {
    stale ||= dots;
    cancelAnimationFrame(frame);
    frame = requestAnimationFrame(draw);
  }

  function draw() {
    const scale = window.devicePixelRatio || 1;
    [wide, high] = [canvas.clientWidth, canvas.clientHeight];
    for (const one of [canvas, layer]) {
      if (one.width === Math.round(wide * scale) && one.height === Math.round(high * scale))
        continue;
      one.width = Math.round(wide * scale);
      one.height = Math.round(high * scale);
      stale = true;
    }
    if (stale) drawDots(scale);
    stale = false;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (layer.width && layer.height) context.drawImage(layer, 0, 0);
    context.setTransform(scale, 0, 0, scale, 0, 0);
    ring(playing, radius() + 5, 3);
    ring(at, radius() + 3, 2);
    if (loop) {
      context.beginPath();
      for (const [px, py] of loop) context.lineTo(px, py);
      context.closePath();
      context.strokeStyle = colours.get("ring");
      context.lineWidth = 2;
      context.setLineDash([6, 4]);
      context.stroke();
      context.setLineDash([]);
    }
  }

  function drawDots(scale) {
    const paint = layer.getContext("2d");
    paint.setTransform(scale, 0, 0, scale, 0, 0);
    paint.clearRect(0, 0, wide, high);
    const size = radius();
    // Those that are filtered out first, as faint dots below the others.
    for (const pass of shown === null ? [true] : [false, true]) {
      paint.globalAlpha = pass ? 0.9 : 0.12;
      for (const [genre, fill] of colours) {
        paint.fillStyle = fill;
        paint.beginPath();
        for (let i = 0; i < x.length; i++) {
          if (genres[i] !== genre || isShown(i) !== pass) continue;
          const [px, py] = [left(i), top(i)];
          if (px < -9 || py < -9 || px > wide + 9 || py > high + 9) continue;
          if (size < 2) paint.fillRect(px - size, py - size, 2 * size, 2 * size);
          else {
            paint.moveTo(px + size, py);
            paint.arc(px, py, size, 0, 2 * Math.PI);
          }
        }
        paint.fill();
      }
    }
  }

  function radius() {
    const plain = x.length > 20_000 ? 1.6 : x.length > 3000 ? 2.4 : x.length > 300 ? 4 : 6;
    return Math.min(plain * Math.sqrt(view.zoom), 9);
  }

  function ring(i, size, width) {
    if (i === null) return;
    context.beginPath();
    context.arc(left(i), top(i), size, 0, 2 * Math.PI);
    context.strokeStyle = colours.get("ring");
    context.lineWidth = width;
    context.stroke();
  }

  function nearest(px, py) {
    let [best, least] = [null, (REACH + radius()) ** 2];
    for (let i = 0; i < x.length; i++) {
      const distance = (left(i) - px) ** 2 + (top(i) - py) ** 2;
      if (distance < least && isShown(i)) [best, least] = [i, distance];
    }
    return best;
  }

  function point(i, aloud = false) {
    if (i === at && !aloud) return;
    at = i;
    hint.hidden = i === null;
    if (i !== null) {
      hint.textContent = name(i);
      const [px, py] = [left(i), top(i)];
      hint.style.setProperty("top", `${py}px`);
      hint.style.setProperty("left", `${px}px`);
      hint.classList.toggle("left", px > wide / 2);
      if (aloud) said.textContent = name(i);
    }
    redraw();
  }

  function zoom(factor, px = wide / 2, py = high / 2) {
    const to = Math.min(Math.max(view.zoom * factor, 1), MAX_ZOOM);
    const [dx, dy] = [(px - wide / 2) / side(), (py - high / 2) / side()];
    const moved = 1 - view.zoom / to; // what is under the pointer stays there
    view = { zoom: to, x: view.x + dx * moved, y: view.y + dy * moved };
    if (to === 1) view = { zoom: 1, x: 0.5, y: 0.5 };
    point(null);
    redraw({ dots: true });
  }

  function step([dx, dy]) {
    const from = at ?? playing;
    let [best, least] = [null, Infinity];
    for (let i = 0; i < x.length; i++) {
      if (i === from || !isShown(i)) continue;
      const [rx, ry] =
        from === null ? [x[i] - view.x, y[i] - view.y] : [x[i] - x[from], y[i] - y[from]];
      const along = rx * dx + ry * dy;
      const across = Math.abs(rx * dy) + Math.abs(ry * dx);
      if (from !== null && along <= across / 2) continue; // not in that direction
      const distance = from === null ? rx * rx + ry * ry : along + 2 * across;
      if (distance < least) [best, least] = [i, distance];
    }
    if (best === null) return;
    const [px, py] = [left(best), top(best)];
    if (px < 0 || py < 0 || px > wide || py > high) {
      view = { ...view, x: x[best], y: y[best] };
      redraw({ dots: true });
    }
    point(best, true);
  }

  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    canvas.setPointerCapture(event.pointerId);
    drag = { from: place(event), view, moved: false };
    if (lassoing || event.shiftKey) loop = [drag.from];
  });
  canvas.addEventListener("pointermove", (event) => {
    const [px, py] = place(event);
    if (!drag) return point(nearest(px, py));
    const [dx, dy] = [px - drag.from[0], py - drag.from[1]];
    drag.moved ||= Math.hypot(dx, dy) > 4;
    if (loop) loop.push([px, py]);
    else if (drag.moved) {
      view = { ...drag.view, x: drag.view.x - dx / side(), y: drag.view.y - dy / side() };
    }
    redraw({ dots: !loop });
  });
  canvas.addEventListener("pointerup", (event) => {
    if (!drag) return;
    const { moved } = drag;
    drag = null;
    if (loop && moved) onlasso(inside(loop));
    else if (!moved) {
      const found = nearest(...place(event));
      if (found !== null) onpick(found);
    }
    loop = null;
    redraw();
  });
  canvas.addEventListener("pointercancel", () => {
    drag = loop = null;
    redraw();
  });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("blur", () => point(null));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.metaKey) return; // the page scrolls; a pinch counts as Ctrl
      event.preventDefault();
      zoom(event.deltaY < 0 ? ZOOM : 1 / ZOOM, ...place(event));
    },
    { passive: false },
  );
  canvas.addEventListener("keydown", (event) => {
    if (event.key in STEPS) step(STEPS[event.key]);
    else if (event.key === "Enter" || event.key === " ") at !== null && onpick(at);
    else if (event.key === "+" || event.key === "=") zoom(ZOOM);
    else if (event.key === "-") zoom(1 / ZOOM);
    else if (event.key === "Escape") onlasso(null);
    else return;
    event.preventDefault();
  });

  // Even-odd: a point is inside if a ray from it crosses the loop an odd number of times.
  function inside(points) {
    const found = new Set();
    for (let i = 0; i < x.length; i++) {
      const [px, py] = [left(i), top(i)];
      let odd = false;
      for (let a = 0, b = points.length - 1; a < points.length; b = a++) {
        const [[ax, ay], [bx, by]] = [points[a], points[b]];
        if (ay > py !== by > py && px < ((bx - ax) * (py - ay)) / (by - ay) + ax) odd = !odd;
      }
      if (odd && isShown(i)) found.add(i);
    }
    return found;
  }

  const tool = (label, name, onclick) =>
    h("button", { type: "button", class: "button small", "aria-label": label, onclick }, name);
  const lasso = h(
    "button",
    {
      type: "button",
      class: "button small",
      "aria-pressed": "false",
      title: "Draw around tracks (or hold Shift)",
    },
    "Lasso",
  );
  lasso.addEventListener("click", () => {
    lassoing = !lassoing;
    lasso.setAttribute("aria-pressed", lassoing);
    canvas.classList.toggle("lassoing", lassoing);
  });
  const element = h(
    "div",
    { class: "map" },
    canvas,
    hint,
    said,
    h(
      "div",
      { class: "map-tools" },
      lasso,
      tool("Zoom in", "+", () => zoom(ZOOM)),
      tool("Zoom out", "−", () => zoom(1 / ZOOM)),
      tool("All of the map", "All", () => zoom(0)),
    ),
  );
  // Colours, too: without a size it was not in the page, and had none.
  new ResizeObserver(resolve).observe(canvas);
  new MutationObserver(resolve).observe(document.documentElement, {
    attributes: true,
    attributeFilter: ["data-theme"],
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", resolve);

  return {
    element,
    /** Show only some tracks, by a Set of their numbers; null for all. */
    show(numbers) {
      shown = numbers;
      point(null);
      redraw({ dots: true });
    },
    /** Mark the track that plays. */
    mark(number) {
      playing = number;
      redraw();
    },
  };
}
