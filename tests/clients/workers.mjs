// Clients of Workers AI, unchanged, against a running server:
//   npm install && node workers.mjs http://127.0.0.1:8080
// Aim: what a project that was written for Workers AI has in its package.json finds here what it
// expects: the AI SDK over REST and over the binding, the old package @cloudflare/ai, the REST
// package's lists, Workers in the style of the documentation, and both ways in which Miniflare
// passes env.AI on. Ends with a table of clients, calls and what passed.
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { generateText, streamText } from "ai";
import Cloudflare from "cloudflare";
import { build } from "esbuild";
import { Miniflare } from "miniflare";
import { createWorkersAI } from "workers-ai-provider";

const url = process.argv[2] ?? "http://127.0.0.1:8080";
const model = "@cf/meta/llama-2-7b-chat-int8";
const account = "0123456789abcdef0123456789abcdef";
const france = "What is the capital of France?";
const table = new Map();

async function check(client, call, test) {
  const row = table.get(client) ?? { calls: 0, passed: 0 };
  table.set(client, row);
  row.calls++;
  try {
    const wrong = await test();
    if (wrong) throw new Error(typeof wrong === "string" ? wrong : JSON.stringify(wrong));
    row.passed++;
    console.log(`[       OK ] ${client}: ${call}`);
  } catch (error) {
    console.log(`[ FAILED ] ${client}: ${call}: ${error.stack ?? error}`);
  }
}

const says = (text, word) => (text?.includes(word) ? null : `no ${word} in ${JSON.stringify(text)}`);
const said = (text) => text.split("\n\n").filter((e) => e.startsWith("data: {"))
  .map((e) => JSON.parse(e.slice(6)).response).join("");

// ---- the AI SDK, REST. The package knows one host; what it sends there goes to the server. -------

const straight = globalThis.fetch;
globalThis.fetch = (to, options) =>
  straight(typeof to === "string" ? to.replace("https://api.cloudflare.com", url) : to, options);

const rest = createWorkersAI({ accountId: account, apiKey: "none" })(model);
const overRest = "workers-ai-provider, REST";
const once = { maxRetries: 0, temperature: 0 };

await check(overRest, "generateText", async () => {
  const a = await generateText({ model: rest, prompt: france, ...once });
  return says(a.text, "Paris") ?? (a.finishReason === "stop" && a.usage.outputTokens > 0 ? null : a);
});

await check(overRest, "generateText, cut", async () => {
  const a = await generateText({ model: rest, prompt: "Count to one hundred.", maxOutputTokens: 5,
                                 ...once });
  return a.finishReason === "length" && a.usage.outputTokens === 5 ? null : a;
});

await check(overRest, "streamText", async () => {
  const a = streamText({ model: rest, prompt: france, ...once });
  let text = "";
  for await (const part of a.textStream) text += part;
  return says(text, "Paris") ?? ((await a.finishReason) === "stop" ? null : await a.finishReason);
});

await check(overRest, "streamText, cut", async () => {
  const a = streamText({ model: rest, prompt: "Count to one hundred.", maxOutputTokens: 5, ...once });
  await a.consumeStream();
  return (await a.finishReason) === "length" && (await a.usage).outputTokens === 5
    ? null : [await a.finishReason, await a.usage];
});

await check(overRest, "an unknown model", async () => {
  const none = createWorkersAI({ accountId: account, apiKey: "none" })("@cf/none/such");
  const e = await generateText({ model: none, prompt: "x", maxRetries: 0 }).catch((error) => error);
  return says(e.message + e.responseBody, "5007");
});

// ---- npm cloudflare ------------------------------------------------------------------------------

const cloudflare = new Cloudflare({ baseURL: `${url}/client/v4`, apiToken: "none", maxRetries: 0 });

await check("cloudflare", "ai.run", async () => {
  const a = await cloudflare.ai.run(model, { account_id: account, prompt: france, temperature: 0 });
  return says(a.response, "Paris");
});

await check("cloudflare", "ai.models.list, to its end", async () => {
  const names = [];
  for await (const m of cloudflare.ai.models.list({ account_id: account, per_page: 1,
                                                    task: "Text Generation" })) names.push(m.name);
  return names.length === new Set(names).size && names.includes(model) ? null : names;
});

await check("cloudflare", "ai.models.list, search", async () => {
  const found = await cloudflare.ai.models.list({ account_id: account, search: "nothing of it" });
  return found.result.length === 0 ? null : found.result;
});

await check("cloudflare", "ai.models.schema.get", async () => {
  const told = await cloudflare.ai.models.schema.get({ account_id: account, model });
  return told.input.oneOf[0].properties.top_k.maximum === 50 && told.output ? null : told;
});

await check("cloudflare", "errors", async () => {
  const e = await cloudflare.ai.run(model, { account_id: account, prompt: "x", top_k: 51 })
    .catch((error) => error);
  return e.status === 400 && e.errors?.[0].code === 5006 ? null : `${e.status} ${e.message}`;
});

// ---- Workers, in Miniflare: as they stand in the documentation of Workers AI ------------------------

const worker = `
import { Ai } from "@cloudflare/ai";
import { generateText, streamText } from "ai";
import { createWorkersAI } from "workers-ai-provider";

const model = "${model}";
const once = { maxRetries: 0, temperature: 0, prompt: "${france}" };
const ways = {
  async whole(env) {
    const response = await env.AI.run(model, { prompt: "${france}", temperature: 0 });
    return new Response(JSON.stringify(response));
  },
  async streamed(env) {
    const stream = await env.AI.run(model, {
      messages: [{ role: "user", content: "${france}" }], temperature: 0, stream: true });
    return new Response(stream, { headers: { "content-type": "text/event-stream" } });
  },
  async gateway(env) {
    return Response.json(await env.AI.run(model, { prompt: "${france}", temperature: 0 },
                                          { gateway: { id: "g", skipCache: true } }));
  },
  async raw(env) {
    return env.AI.run(model, { prompt: "${france}", temperature: 0 }, { returnRawResponse: true });
  },
  async id(env) {
    await env.AI.run(model, { prompt: "Hi", max_tokens: 1 });
    return Response.json(env.AI.lastRequestId);
  },
  async models(env) {
    return Response.json(await env.AI.models());
  },
  async error(env) {
    await env.AI.run("@cf/none/such", { prompt: "x" });
  },
  async markdown(env) {
    await env.AI.toMarkdown([{ name: "a.txt", blob: new Blob(["x"]) }]);
  },
  async old(env) {
    const ai = new Ai(env.AI);
    return Response.json(await ai.run(model, { prompt: "${france}", temperature: 0 }));
  },
  async oldStreamed(env) {
    const ai = new Ai(env.AI);
    return new Response(await ai.run(model, { prompt: "${france}", temperature: 0, stream: true }));
  },
  async sdk(env) {
    const a = await generateText({ model: createWorkersAI({ binding: env.AI })(model), ...once });
    return Response.json({ response: a.text, finish: a.finishReason });
  },
  async sdkStreamed(env) {
    const a = streamText({ model: createWorkersAI({ binding: env.AI })(model), ...once });
    return a.toTextStreamResponse();
  },
};
export default {
  async fetch(request, env) {
    try {
      return await ways[new URL(request.url).pathname.slice(1)](env);
    } catch (error) {
      return Response.json({ name: error.name, message: error.message }, { status: 500 });
    }
  },
};`;

const bundle = await build({
  stdin: { contents: worker, resolveDir: import.meta.dirname, loader: "js" },
  bundle: true, format: "esm", write: false, conditions: ["workerd", "worker", "browser"],
  external: ["node:*", "cloudflare:*"], logLevel: "error",
});
const main = {
  name: "main",
  modules: [{ type: "ESModule", path: "main.mjs", contents: bundle.outputFiles[0].text }],
  compatibilityDate: "2025-09-01", compatibilityFlags: ["nodejs_compat"],
};

async function inWorker(client, options) {
  const flare = new Miniflare(options);
  const ask = async (way) => (await flare.dispatchFetch(`http://worker/${way}`)).text();
  const whole = async (way) => says(JSON.parse(await ask(way)).response, "Paris");
  try {
    await flare.ready;
    await check(client, "env.AI.run", () => whole("whole"));
    await check(client, "env.AI.run, streamed", async () => {
      const text = await ask("streamed");
      return says(said(text), "Paris") ?? (text.endsWith("data: [DONE]\n\n") ? null : text);
    });
    await check(client, "with a gateway", () => whole("gateway"));
    await check(client, "returnRawResponse", () => whole("raw"));
    await check(client, "lastRequestId", async () =>
      (/^"[0-9a-f-]{36}"$/.test(await ask("id")) ? null : ask("id")));
    await check(client, "env.AI.models", async () => says(await ask("models"), model));
    await check(client, "an unknown model", async () => says(await ask("error"), "5007: No such"));
    await check(client, "toMarkdown is refused", async () =>
      (JSON.parse(await ask("markdown")).name ? null : "no error"));
    await check(`@cloudflare/ai 1.2.2 in ${client}`, "run", () => whole("old"));
    await check(`@cloudflare/ai 1.2.2 in ${client}`, "run, streamed", async () =>
      says(said(await ask("oldStreamed")), "Paris"));
    await check(`workers-ai-provider, binding, in ${client}`, "generateText", () => whole("sdk"));
    await check(`workers-ai-provider, binding, in ${client}`, "streamText", async () =>
      says(await ask("sdkStreamed"), "Paris"));
  } finally {
    await flare.dispose();
  }
}

const address = new URL(url).host;
await inWorker("miniflare, wrappedBindings", {
  workers: [
    { ...main, wrappedBindings: { AI: { scriptName: "wrapper" } } },
    {
      name: "wrapper",
      modules: [{ type: "ESModule", path: "wrapper.mjs",
                  contents: 'export { default } from "cloudflare-internal:ai-api";' }],
      serviceBindings: { fetcher: { external: { address, http: {} } } },
    },
  ],
});
await inWorker("miniflare, ai (MF-URL)", {
  ...main, ai: { binding: "AI", remoteProxyConnectionString: new URL(url) },
});

// ---- curl, as the documentation has it, and LiteLLM's form ------------------------------------------

const run = promisify(execFile);
const curl = async (...args) => (await run("curl", ["-sS", "-m", "60", ...args])).stdout;
const route = `${url}/client/v4/accounts/${account}/ai/run/${model}`;
const bearer = ["-H", "Authorization: Bearer none"];
const inputs = { messages: [{ role: "user", content: france }], temperature: 0 };

await check("curl", "-d", async () =>
  says(JSON.parse(await curl(route, ...bearer, "-d", JSON.stringify(inputs))).result.response, "Paris"));
await check("curl", "-X POST, streamed", async () =>
  says(said(await curl("-N", "-X", "POST", route, ...bearer, "-d",
                       JSON.stringify({ ...inputs, stream: true }))), "Paris"));
await check("curl", "more than it sends unasked (Expect: 100-continue)", async () => {
  const long = { ...inputs, ignored: "x".repeat(1100000) };
  const child = run("curl", ["-sS", "-m", "60", route, "-d", "@-"]);
  child.child.stdin.end(JSON.stringify(long));
  return says(JSON.parse((await child).stdout).result.response, "Paris");
});
await check("curl", "the form of LiteLLM", async () => {
  const body = JSON.stringify({ messages: inputs.messages, max_tokens: 20, stream: false });
  const a = JSON.parse(await curl(route, ...bearer, "-H", "content-type: application/json",
                                  "-H", "accept: application/json", "-d", body));
  return a.success === true && typeof a.result.response === "string" ? null : a;
});

console.log("\nclient | calls | passed");
let passed = 0;
let calls = 0;
for (const [client, row] of table) {
  console.log(`${client} | ${row.calls} | ${row.passed}`);
  passed += row.passed;
  calls += row.calls;
}
console.log(`[  PASSED  ] ${passed} test(s).`);
if (passed < calls) console.log(`[  FAILED  ] ${calls - passed} test(s).`);
process.exit(passed < calls ? 1 : 0);
