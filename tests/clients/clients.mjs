// Real clients, unchanged, against a running server:
//   npm install && node clients.mjs http://127.0.0.1:8080
// Aim: the snippets of README.md and what stands behind them: the OpenAI SDK, the Cloudflare SDK
// over REST, and a Worker that calls env.AI.run() inside workerd.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
