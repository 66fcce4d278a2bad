// Requests to the server. What fails throws a Failure, in words for the person who asked.

/** An error of the server or of the way to it. */
export class Failure extends Error {
  constructor(status, { title, remedy, detail } = {}, again = 0) {
    super(title ?? TITLES[status] ?? "The server could not do this");
    this.status = status;
    this.title = this.message;
    this.remedy = remedy ?? REMEDIES[status] ?? "Try again.";
    this.detail = detail ?? "";
    this.again = again; // seconds after which the server expects the next try
  }
}

const TITLES = {
  0: "The server does not answer",
  401: "This server needs a token",
  404: "This is not here",
  408: "The upload took too long",
  413: "This is too large for the server",
  503: "Too many people are waiting",
};
const REMEDIES = {
  0: "Check that it is running and that you are connected, then try again.",
  401: "Open the address that you were given, with ?token=… at its end.",
  404: "It may have been deleted. Go back, or start again.",
  413: "Send less at a time.",
  503: "Try again in a few seconds.",
};
const POLL_S = 20; // how long the server may hold a request until something changes
const TRIES = 5; // while the server is away or too busy
const WRITING = { "Content-Type": "application/json", "X-Genrescope": "1" };

/** Fetch JSON. */
export async function get(path, signal) {
  return receive(await ask(path, { signal }));
}

/** Send JSON and fetch the answer's. */
export async function post(path, json, signal) {
  const body = JSON.stringify(json);
  return receive(await ask(path, { method: "POST", headers: WRITING, body, signal }));
}

/** Delete what is at a path. */
export async function remove(path) {
  return receive(await ask(path, { method: "DELETE", headers: { "X-Genrescope": "1" } }));
}

/** Start an answer of what the server has: `{ sample: name }`, or the library's `{ track: number }`. */
export function answerOf(what, signal) {
  return begin(`/api/answers?${new URLSearchParams(what)}`, signal);
}

/** Start an answer, or what belongs to one, that needs nothing from here. */
export async function begin(path, signal) {
  return receive(await ask(path, { method: "POST", signal }));
}

/**
 * Upload a file for an answer.
 * `onprogress` receives the part that has been sent, in [0, 1].
 */
export function upload(file, onprogress, signal) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest(); // fetch does not report how much it has sent
    const form = new FormData();
    form.append("file", file, file.name);
    request.open("POST", "/api/answers");
    request.upload.onprogress = (event) => onprogress(event.loaded / event.total);
    request.onload = () => {
      const body = parse(request.responseText);
      if (request.status < 300) resolve(body);
      else reject(failure(request.status, body, request.getResponseHeader("retry-after")));
    };
    request.onerror = () => reject(new Failure(0));
    request.onabort = () => reject(new DOMException("", "AbortError"));
    // Once the answer's address is here, it is for the caller to delete it.
    const stop = () => request.readyState < XMLHttpRequest.DONE && request.abort();
    signal?.addEventListener("abort", stop);
    request.send(form);
  });
}

/**
 * Follow a job to its end: `onstate` receives every state, the last one too, which is returned.
 * A server that is away or too busy is asked again; anything else throws.
 */
export async function follow(path, onstate, signal) {
  let since = "";
  for (let tries = 0; ;) {
    try {
      const state = await get(`${path}?wait=${POLL_S}${since}`, signal);
      onstate(state);
      if (!["waiting", "running"].includes(state.state)) return state;
      since = `&since=${state.version}`;
      tries = 0;
    } catch (error) {
      const passes = error instanceof Failure && (error.status === 0 || error.status >= 500);
      if (!passes || ++tries > TRIES) throw error;
      await new Promise((resolve) => setTimeout(resolve, 1000 * tries));
    }
  }
}

async function ask(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    throw error.name === "AbortError" ? error : new Failure(0);
  }
}

async function receive(response) {
  const body = parse(await response.text());
  if (!response.ok) throw failure(response.status, body, response.headers.get("retry-after"));
  return body;
}

function failure(status, body, again) {
  const error = body?.error ?? { detail: typeof body?.detail === "string" ? body.detail : "" };
  return new Failure(status, error, Number(again));
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's own error page, or nothing
  }
}
