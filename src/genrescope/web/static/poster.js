// A poster of the library's map, drawn as SVG; and files that the page saves.

import { Failure } from "./api.js";
import { h, s } from "./dom.js";
import { capital, colour } from "./genres.js";

const [WIDTH, HEIGHT] = [1200, 1500];
const [TOP, SIDE] = [230, 70]; // where the map begins
const NAMED = 10; // genres in the legend
const FONT = "'Instrument Sans', system-ui, sans-serif";

/** Save the map as a file; `kind` is svg or png. */
export async function savePoster(shelf, kind) {
  const picture = new Blob([new XMLSerializer().serializeToString(draw(shelf))], {
    type: "image/svg+xml",
  });
  const name = `${shelf.contents.name}.${kind}`;
  save(kind === "svg" ? picture : await toPng(picture), name);
}

/** Send JSON and save what comes back; returns how many tracks it lacks. */
export async function download(path, json, name) {
  const headers = { "Content-Type": "application/json", "X-Genrescope": "1" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(json) }).catch(
    () => null,
  );
  if (!response) throw new Failure(0);
  if (!response.ok) {
    const body = await response.json().catch(() => null);
    throw new Failure(response.status, body?.error ?? { detail: body?.detail });
  }
  save(await response.blob(), name);
  return Number(response.headers.get("x-genrescope-left-out"));
}

function save(blob, name) {
  const address = URL.createObjectURL(blob);
  h("a", { href: address, download: name.replace(/[\\/:*?"<>|]/g, "_") }).click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}

function draw({ contents, x, y, genre }) {
  const style = getComputedStyle(document.body);
  const ink = style.color;
  const side = WIDTH - 2 * SIDE;
  const size = x.length > 20_000 ? 1.2 : x.length > 3000 ? 2.2 : x.length > 300 ? 4.5 : 9;
  const dots = [...new Set(genre)].map((name) =>
    s(
      "g",
      { fill: colour(name), "fill-opacity": 0.9 },
      x.flatMap((_, i) =>
        genre[i] === name
          ? [
              s("circle", {
                cx: (SIDE + side * x[i]).toFixed(1),
                cy: (TOP + side * y[i]).toFixed(1),
                r: size,
              }),
            ]
          : [],
      ),
    ),
  );
  const legend = contents.genres.slice(0, NAMED).map(({ genre: name, tracks }, i) => {
    const [left, top] = [SIDE + (i % 5) * (side / 5), HEIGHT - 150 + Math.floor(i / 5) * 44];
    return s(
      "g",
      { transform: `translate(${left} ${top})` },
      s("rect", { width: 18, height: 18, rx: 5, y: -15, fill: colour(name) }),
      s(
        "text",
        { x: 28, "font-size": 20, fill: ink },
        `${capital(name)} ${tracks.toLocaleString("en")}`,
      ),
    );
  });
  return s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, "font-family": FONT },
    s("rect", { width: WIDTH, height: HEIGHT, fill: style.backgroundColor }),
    s(
      "text",
      { x: SIDE, y: 120, "font-size": 68, "font-weight": 600, "letter-spacing": -2, fill: ink },
      contents.name,
    ),
    s(
      "text",
      { x: SIDE, y: 170, "font-size": 26, fill: ink, "fill-opacity": 0.7 },
      `${contents.tracks.toLocaleString("en")} tracks by sound: those that sound alike lie close together`,
    ),
    dots,
    legend,
  );
}

async function toPng(picture) {
  const address = URL.createObjectURL(picture);
  try {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = h("canvas", { width: 2 * WIDTH, height: 2 * HEIGHT });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } finally {
    URL.revokeObjectURL(address);
  }
}
