// For programs: how to ask this server, with its own address, and all that it offers.

import { get } from "./api.js";
import { copyButton, h } from "./dom.js";

const STATUSES = /^[45]/; // of errors, which are alike everywhere
const OPERATIONS = ["get", "post", "put", "delete", "patch"];

/** Show the page. */
export async function show(element) {
  document.title = "For programs · genrescope";
  const reference = h("section", { "aria-label": "Reference", "aria-busy": "true" });
  element.append(
    h(
      "div",
      { class: "text" },
      h("h1", {}, "For programs"),
      h("p", { class: "lead" }, "Send a file and receive its genres as JSON."),
      Object.entries(samples(location.origin)).map(([name, code]) => sampleCode(name, code)),
      h(
        "p",
        {},
        "A server with a token expects the header ",
        h("code", {}, "Authorization: Bearer TOKEN"),
        ". Browsers reject requests from pages of other sites, so the JavaScript above is for Node and others.",
      ),
      h("h2", {}, "Reference"),
      h("p", {}, "The same as ", h("a", { href: "/openapi.json" }, "OpenAPI 3.1"), "."),
      reference,
    ),
  );
  try {
    reference.append(...operations(await get("/openapi.json")));
  } catch (error) {
    reference.append(
      h("p", { class: "problem", role: "alert" }, `${error.title}. ${error.remedy}`),
    );
  }
  reference.removeAttribute("aria-busy");
}

/** Leave the page. */
export function hide() {}

function samples(origin) {
  return {
    curl: `curl -F file=@song.mp3 '${origin}/api/classify?timeline=true'`,
    Python: `import httpx

with open("song.mp3", "rb") as file:
    response = httpx.post("${origin}/api/classify", files={"file": file}, timeout=120)
answer = response.json()
if response.is_error:
    raise SystemExit(answer["detail"])
print(answer["genre"], answer["confidence"], answer["sentence"])`,
    JavaScript: `import { openAsBlob } from "node:fs";

const form = new FormData();
form.append("file", await openAsBlob("song.mp3"), "song.mp3");
const response = await fetch("${origin}/api/classify", { method: "POST", body: form });
const answer = await response.json();
if (!response.ok) throw new Error(answer.detail);
console.log(answer.genre, answer.confidence, answer.sentence);`,
  };
}

function sampleCode(name, code) {
  return h(
    "div",
    { class: "sample-code" },
    h(
      "div",
      {},
      name,
      copyButton(() => code),
    ),
    h("pre", { tabindex: 0, role: "region", "aria-label": `${name} example` }, h("code", {}, code)),
  );
}

function operations(description) {
  return Object.entries(description.paths).flatMap(([path, item]) =>
    OPERATIONS.filter((method) => item[method]).map((method) =>
      operation(path, method, item[method], description),
    ),
  );
}

function operation(path, method, described, description) {
  const name = `${method.toUpperCase()} ${path}`;
  const parameters = (described.parameters ?? []).map((one) => [
    h("code", {}, one.name),
    kind(one.schema),
    one.description ?? "",
  ]);
  const responses = Object.entries(described.responses);
  const answers = responses.filter(([status]) => !STATUSES.test(status));
  const errors = responses.filter(([status]) => STATUSES.test(status));
  const fields = answers.flatMap(([, response]) => {
    const schema = response.content?.["application/json"]?.schema;
    return Object.entries(resolve(schema, description)?.properties ?? {}).map(([name, one]) => [
      h("code", {}, name),
      kind(one),
      one.description ?? "",
    ]);
  });
  return h(
    "details",
    { class: "operation" },
    h(
      "summary",
      {},
      h("span", { class: `method ${method}` }, method.toUpperCase()),
      h("code", {}, path),
      h("span", { class: "note" }, described.summary ?? ""),
    ),
    described.description && h("p", {}, described.description),
    list("Parameters", name, ["name", "type", "what"], parameters),
    list("Answer", name, ["field", "type", "what"], fields),
    list(
      "Errors",
      name,
      ["status", "when"],
      errors.map(([status, one]) => [status, one.description]),
    ),
  );
}

function resolve(schema, description) {
  const name = schema?.$ref?.split("/").at(-1);
  return name ? description.components.schemas[name] : schema;
}

function kind(schema = {}) {
  const one =
    schema.$ref?.split("/").at(-1) ??
    (schema.anyOf ? schema.anyOf.map(kind).join(" or ") : null) ??
    (schema.type === "array" ? `list of ${kind(schema.items)}` : schema.type) ??
    "any";
  return schema.default == null ? one : `${one}, ${JSON.stringify(schema.default)} if not given`;
}

function list(caption, operation, heads, rows) {
  if (!rows.length) return null;
  return h(
    "div",
    { class: "scroll", role: "region", tabindex: 0, "aria-label": `${caption} of ${operation}` },
    h(
      "table",
      { class: "fields" },
      h("caption", {}, caption),
      h(
        "thead",
        {},
        h(
          "tr",
          {},
          heads.map((head) => h("th", { scope: "col" }, head)),
        ),
      ),
      h(
        "tbody",
        {},
        rows.map((row) =>
          h(
            "tr",
            {},
            row.map((value) => h("td", {}, value)),
          ),
        ),
      ),
    ),
  );
}
