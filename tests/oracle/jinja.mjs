// Renders every template of tests/templates for every conversation with the npm package
// @huggingface/jinja. Without an argument the texts are compared with expected.json; with
// --write they become it.
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

// The package lies where the tests were started, not beside this file.
const require = createRequire(join(process.cwd(), "anywhere.js"));
const { Template } = require("@huggingface/jinja");
const folder = join(dirname(fileURLToPath(import.meta.url)), "..", "templates");
const given = JSON.parse(readFileSync(join(folder, "conversations.json"), "utf8"));

// The package tells the date of this machine: here it is always the same.
process.env.TZ = "UTC";
const Clock = globalThis.Date;
globalThis.Date = class extends Clock {
  constructor(...when) {
    super(...(when.length ? when : [given.now * 1000]));
  }
};

// A call's arguments come as text and are shown as a value, unless the template wants text; one
// that knows nothing of calls gets an empty content with them.
function shown(message, text, calls) {
  const copy = structuredClone(message);
  copy.content ??= calls ? null : "";
  for (const call of copy.tool_calls ?? []) {
    const value = JSON.parse(call.function.arguments);
    call.function.arguments = text ? call.function.arguments : value;
  }
  return copy;
}

function render(name, conversation) {
  const source = readFileSync(join(folder, name + ".jinja"), "utf8");
  const template = new Template(source);
  const text = given.text_arguments.includes(name);
  const marks = Object.fromEntries(Object.entries(given.marks[name]).filter(([, v]) => v));
  try {
    return template.render({
      ...marks,
      documents: null,
      tools: conversation.tools ?? null,
      messages: conversation.messages.map((m) => shown(m, text, source.includes("tool_calls"))),
      add_generation_prompt: conversation.add_generation_prompt,
    });
  } catch {
    return null;
  }
}

// Where the package knows less than Python's Jinja, the text is Python's.
const python = JSON.parse(readFileSync(join(folder, "python.json"), "utf8"));
const expected = {};
let n = 0;
for (const file of readdirSync(folder).filter((f) => f.endsWith(".jinja")).sort()) {
  const name = file.slice(0, -".jinja".length);
  expected[name] = {};
  for (const conversation of given.conversations) {
    const known = python[name]?.[conversation.name];
    expected[name][conversation.name] = known ?? render(name, conversation);
    n += known ? 0 : 1;
  }
}
const path = join(folder, "expected.json");
const text = JSON.stringify(expected, null, 1) + "\n";
if (process.argv.includes("--write")) {
  writeFileSync(path, text);
} else if (readFileSync(path, "utf8") !== text) {
  const old = JSON.parse(readFileSync(path, "utf8"));
  for (const name of Object.keys(expected))
    for (const c of Object.keys(expected[name]))
      if (old[name]?.[c] !== expected[name][c]) console.log(`${name}, ${c}: not as expected.json`);
  process.exit(1);
}
console.log(`${n} texts`);
