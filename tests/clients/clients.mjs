// Real clients, unchanged, against a running server:
//   npm install && node clients.mjs http://127.0.0.1:8080
// Aim: the snippets of README.md and what stands behind them: the OpenAI and Anthropic SDKs, the
// Cloudflare SDK over REST, and a Worker that calls env.AI.run() inside workerd.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import Anthropic from "@anthropic-ai/sdk";
import Cloudflare from "cloudflare";
import OpenAI, { BadRequestError, NotFoundError } from "openai";
import workerdModule from "workerd"; // CommonJS: the path is its default

const url = process.argv[2] ?? "http://127.0.0.1:8080";
const model = "@cf/meta/llama-2-7b-chat-int8";
const france = [{ role: "user", content: "What is the capital of France?" }];
let passed = 0;
const failed = [];

async function check(name, test) {
  try {
    const seen = await test();
    if (!seen) throw new Error("not as expected");
    passed++;
    console.log(`[       OK ] ${name}`);
  } catch (error) {
    failed.push(name);
    console.log(`[ FAILED ] ${name}: ${error.stack ?? error}`);
  }
}

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none", maxRetries: 0 });

await check("openai chat", async () => {
  const a = await openai.chat.completions.create({ model: "demo", messages: france, temperature: 0 });
  return a.choices[0].message.content.includes("Paris") && a.usage.total_tokens > 0;
});

await check("openai chat, streamed", async () => {
  let text = "";
  let usage;
  const stream = await openai.chat.completions.create({
    model: "demo", messages: france, temperature: 0, stream: true,
    stream_options: { include_usage: true },
  });
  for await (const part of stream) {
    text += part.choices[0]?.delta?.content ?? "";
    usage = part.usage ?? usage;
  }
  return text.includes("Paris") && usage.completion_tokens > 0;
});

await check("openai stream helper", async () => {
  const runner = openai.chat.completions.stream({ model: "demo", messages: france, temperature: 0 });
  return (await runner.finalContent()).includes("Paris");
});

await check("openai completions", async () => {
  const a = await openai.completions.create({
    model: "demo", prompt: "The capital of France is", max_tokens: 8, temperature: 0,
  });
  return a.choices[0].text.includes("Paris");
});

await check("openai models", async () => {
  const names = [];
  for await (const m of openai.models.list()) names.push(m.id);
  return names.includes("demo");
});

await check("openai errors", async () => {
  const unknown = await openai.chat.completions.create({ model: "none", messages: france })
    .catch((e) => e);
  const wrong = await openai.chat.completions.create({ model: "demo", messages: france, top_p: 9 })
    .catch((e) => e);
  return unknown instanceof NotFoundError && unknown.code === "model_not_found" &&
         wrong instanceof BadRequestError && wrong.param === "top_p";
});

await check("openai, abort in the middle", async () => {
  const stream = await openai.chat.completions.create({
    model: "demo", stream: true, messages: [{ role: "user", content: "Count to one hundred." }],
  });
  for await (const part of stream) {
    if (part) break;
  }
  return (await fetch(`${url}/health`)).status === 200;
});

await check("openai n, logprobs, seed", async () => {
  const ask = () => openai.chat.completions.create({
    model: "demo", messages: france, n: 2, temperature: 1, seed: 7, logprobs: true, top_logprobs: 2,
    max_completion_tokens: 12, stop: ["\n"], logit_bias: { 5: -1 }, user: "u", store: false,
    metadata: { a: "b" }, service_tier: "auto", parallel_tool_calls: false,
  });
  const [a, b] = [await ask(), await ask()];
  const l = a.choices[0].logprobs.content;
  return a.choices.length === 2 && a.choices[1].index === 1 && l[0].top_logprobs.length === 2 &&
         l.map((t) => t.token).join("") === a.choices[0].message.content &&
         JSON.stringify(a.choices) === JSON.stringify(b.choices);
});

await check("openai stream helper, two answers", async () => {
  const runner = openai.chat.completions.stream({
    model: "demo", messages: france, temperature: 0, n: 2, stream_options: { include_usage: true },
  });
  const a = await runner.finalChatCompletion();
  return a.choices.length === 2 && a.choices[0].message.content === a.choices[1].message.content &&
         a.choices[0].message.content.includes("Paris") && (await runner.totalUsage()).total_tokens > 0;
});

await check("openai completions: lists, echo, logprobs", async () => {
  const a = await openai.completions.create({
    model: "demo", prompt: ["The capital of France is", "The capital of Spain is"], max_tokens: 4,
    temperature: 0, echo: true, logprobs: 1,
  });
  const [x, y] = a.choices;
  return x.text.startsWith("The capital of France is Paris") && y.text.includes("Madrid") &&
         x.logprobs.token_logprobs[0] === null && x.logprobs.tokens.length === x.logprobs.text_offset.length;
});

await check("openai completions: token ids, streamed", async () => {
  const prompt = (await (await fetch(`${url}/tokenize`, {
    method: "POST", body: JSON.stringify({ prompt: "The capital of France is" }),
  })).json()).tokens;
  let text = "";
  const stream = await openai.completions.create({ model: "demo", prompt, max_tokens: 8, temperature: 0, stream: true });
  for await (const part of stream) text += part.choices[0]?.text ?? "";
  return text.includes("Paris");
});

await check("openai models.retrieve", async () => {
  const e = await openai.models.retrieve("none").catch((error) => error);
  return (await openai.models.retrieve("demo")).id === "demo" && e instanceof NotFoundError;
});

await check("openai responses", async () => {
  const a = await openai.responses.create({
    model: "demo", instructions: "Answer.", input: france[0].content, temperature: 0, store: false,
  });
  const b = await openai.responses.create({
    model: "demo", temperature: 0, max_output_tokens: 3,
    input: [{ role: "user", content: [{ type: "input_text", text: france[0].content }] }],
  });
  return a.output_text.includes("Paris") && a.status === "completed" && a.usage.total_tokens > 0 &&
         b.status === "incomplete" && b.incomplete_details.reason === "max_output_tokens";
});

await check("openai responses, streamed", async () => {
  const kinds = [];
  let text = "";
  const stream = await openai.responses.create({
    model: "demo", input: france[0].content, temperature: 0, stream: true,
  });
  for await (const event of stream) {
    kinds.push(event.type);
    if (event.type === "response.output_text.delta") text += event.delta;
  }
  const runner = openai.responses.stream({ model: "demo", input: france[0].content, temperature: 0 });
  return text.includes("Paris") && kinds[0] === "response.created" && kinds.at(-1) === "response.completed" &&
         (await runner.finalResponse()).output_text === text;
});

await check("openai, its own deadline and request ids", async () => {
  const { response, request_id } = await openai.chat.completions.create(
    { model: "demo", messages: france, max_tokens: 3 }, { headers: { "X-Request-Id": "mine-1" } }).withResponse();
  const late = await openai.completions.create(
    { model: "demo", prompt: "x", max_tokens: 900, ...{ ignore_eos: true } },
    { headers: { "x-request-deadline-ms": "1" }, maxRetries: 5 }).catch((e) => e);
  return request_id === "mine-1" && response.headers.get("server-timing").includes("total") && late.status === 408;
});

const anthropic = new Anthropic({ baseURL: url, apiKey: "none", maxRetries: 0 });

await check("anthropic messages", async () => {
  const a = await anthropic.messages.create({
    model: "demo", max_tokens: 40, temperature: 0, system: "Answer.", messages: france,
  });
  const b = await anthropic.messages.create({
    model: "demo", max_tokens: 40, temperature: 0, stop_sequences: ["Paris"],
    system: [{ type: "text", text: "Answer." }],
    messages: [{ role: "user", content: [{ type: "text", text: france[0].content }] }],
  });
  return a.content[0].text.includes("Paris") && a.stop_reason === "end_turn" && a.usage.output_tokens > 0 &&
         b.stop_reason === "stop_sequence" && b.stop_sequence === "Paris";
});

await check("anthropic messages, streamed", async () => {
  const stream = anthropic.messages.stream({ model: "demo", max_tokens: 40, temperature: 0, messages: france });
  let text = "";
  stream.on("text", (piece) => { text += piece; });
  const a = await stream.finalMessage();
  return a.content[0].text === text && text.includes("Paris") && a.stop_reason === "end_turn";
});

await check("anthropic count_tokens and errors", async () => {
  const n = await anthropic.messages.countTokens({ model: "demo", messages: france });
  const e = await anthropic.messages.create({ model: "none", max_tokens: 1, messages: france }).catch((x) => x);
  const w = await anthropic.messages.create({ model: "demo", max_tokens: 0, messages: france }).catch((x) => x);
  return n.input_tokens > 5 && e instanceof Anthropic.NotFoundError && w instanceof Anthropic.BadRequestError &&
         w.error.error.type === "invalid_request_error";
});

const cloudflare = new Cloudflare({ baseURL: `${url}/client/v4`, apiToken: "none" });

await check("cloudflare REST", async () => {
  const a = await cloudflare.ai.run(model, {
    account_id: "0123456789abcdef", prompt: "What is the capital of Spain?", temperature: 0,
  });
  return a.response.includes("Madrid");
});

await check("cloudflare REST, unknown model", async () => {
  const e = await cloudflare.ai.run("@cf/none/such", { account_id: "a", prompt: "x" })
    .catch((error) => error);
  return e.status === 400 && e.errors[0].code === 5007;
});

await check("cloudflare models search", async () => {
  const names = [];
  for await (const m of cloudflare.ai.models.list({ account_id: "a" })) names.push(m.name);
  return names.includes(model);
});

// A Worker as a user writes it; workerd binds its env.AI to the server under test.
const worker = `
export default {
  async fetch(request, env) {
    const { stream, inputs, model } = await request.json();
    try {
      const answer = await env.AI.run(model, inputs);
      return stream
        ? new Response(answer, { headers: { "content-type": "text/event-stream" } })
        : Response.json(answer);
    } catch (error) {
      return Response.json({ name: error.name, message: error.message }, { status: 500 });
    }
  },
};`;

const config = (port) => `
using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [(name = "worker.mjs", esModule = embed "worker.mjs")],
      compatibilityDate = "2025-01-01",
      bindings = [(name = "AI", wrapped = (
        moduleName = "cloudflare-internal:ai-api",
        innerBindings = [(name = "fetcher", service = "firstlight")]))])),
    (name = "firstlight", external = (address = "${new URL(url).host}", http = ())),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);`;

const folder = mkdtempSync(join(tmpdir(), "firstlight-"));
const port = 20000 + (process.pid % 20000);
writeFileSync(join(folder, "worker.mjs"), worker);
writeFileSync(join(folder, "config.capnp"), config(port));
const workerd = spawn(workerdModule.default, ["serve", join(folder, "config.capnp")], { stdio: "inherit" });

async function ask(body) {
  for (let i = 0; ; i++) {
    try {
      return await fetch(`http://127.0.0.1:${port}/`, { method: "POST", body: JSON.stringify(body) });
    } catch (error) {
      if (i === 100) throw error;
      await new Promise((resume) => setTimeout(resume, 100));
    }
  }
}

await check("env.AI.run in workerd", async () => {
  const r = await ask({ model, inputs: { messages: france, temperature: 0 } });
  return (await r.json()).response.includes("Paris");
});

await check("env.AI.run in workerd, streamed", async () => {
  const r = await ask({
    model, stream: true, inputs: { prompt: "What is the capital of Spain?", temperature: 0, stream: true },
  });
  const text = await r.text();
  return text.endsWith("data: [DONE]\n\n") &&
         text.split("\n\n").filter((e) => e.startsWith("data: {"))
           .map((e) => JSON.parse(e.slice(6)).response).join("").includes("Madrid");
});

await check("env.AI.run in workerd, unknown model", async () => {
  const r = await ask({ model: "@cf/none/such", inputs: { prompt: "x" } });
  return (await r.json()).message.startsWith("5007");
});

workerd.kill();
rmSync(folder, { recursive: true });
console.log(`[  PASSED  ] ${passed} test(s).`);
if (failed.length) console.log(`[  FAILED  ] ${failed.length} test(s): ${failed.join(", ")}`);
process.exit(failed.length ? 1 : 0);
