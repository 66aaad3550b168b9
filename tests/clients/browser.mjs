// A real browser against a running server that allows this page's origin (--cors-origin):
//   npm install && node browser.mjs http://127.0.0.1:8080 [path of Chromium]
// Aim: the stream as pages read it, by EventSource (GET) and by fetch (POST, which a browser asks
// leave for first), whole and broken off, and pages of a site that is not allowed.
import { createServer } from "node:http";
import puppeteer from "puppeteer-core";

const url = process.argv[2] ?? "http://127.0.0.1:8080";
const executablePath = process.argv[3] ?? "/usr/bin/chromium";
const allowedPort = Number(process.argv[4] ?? 18080); // the server allows http://127.0.0.1:PORT
const model = "@cf/meta/llama-2-7b-chat-int8";
const prompt = "What is the capital of France?";
let passed = 0;
const failed = [];

async function check(name, test) {
  try {
    if (!(await test())) throw new Error("not as expected");
    passed++;
    console.log(`[       OK ] ${name}`);
  } catch (error) {
    failed.push(name);
    console.log(`[ FAILED ] ${name}: ${error.stack ?? error}`);
  }
}

function site(port) {
  return new Promise((resolve) => {
    const server = createServer((request, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<!doctype html><title>a page</title>");
    });
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

const allowed = await site(allowedPort);
const foreign = await site(0);
const browser = await puppeteer.launch({
  executablePath, headless: true,
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
});
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${allowedPort}/`);

const run = `${url}/client/v4/accounts/any/ai/run/${model}`;

await check("EventSource reads the stream of a GET", async () => {
  const seen = await page.evaluate((source) => new Promise((resolve, reject) => {
    const events = new EventSource(source);
    let text = "";
    let n = 0;
    events.onmessage = (event) => {
      if (event.data === "[DONE]") {
        events.close();
        resolve({ text, n });
        return;
      }
      text += JSON.parse(event.data).response;
      n++;
    };
    events.onerror = () => reject(new Error(`after ${n} events`));
  }), `${run}?prompt=${encodeURIComponent(prompt)}&stream=true&temperature=0`);
  return seen.text.includes("Paris") && seen.n > 2;
});

await check("EventSource by the short route", async () => {
  const text = await page.evaluate((source) => new Promise((resolve, reject) => {
    const events = new EventSource(source);
    let all = "";
    events.onmessage = (event) => {
      if (event.data !== "[DONE]") {
        all += JSON.parse(event.data).response;
        return;
      }
      events.close();
      resolve(all);
    };
    events.onerror = () => reject(new Error("broken"));
  }), `${url}/run?model=${model}&prompt=Hello!&stream=true&max_tokens=5`);
  return text.length > 0;
});

await check("fetch streams a POST after a preflight", async () => {
  const seen = await page.evaluate(async (source, question) => {
    const answer = await fetch(source, {
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: "Bearer none",
                 "X-Stainless-Lang": "js", "X-Stainless-OS": "Unknown" },
      body: JSON.stringify({ messages: [{ role: "user", content: question }], stream: true,
                             temperature: 0 }),
    });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let raw = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      raw += value;
    }
    return { raw, status: answer.status, id: answer.headers.get("x-request-id") };
  }, `${url}/v1/chat/completions`, prompt);
  const text = seen.raw.split("\n\n").filter((e) => e.startsWith("data: {"))
    .map((e) => JSON.parse(e.slice(6)).choices[0]?.delta?.content ?? "").join("");
  return seen.status === 200 && seen.id && text.includes("Paris") &&
         seen.raw.endsWith("data: [DONE]\n\n");
});

await check("fetch reads errors, too", async () => {
  const seen = await page.evaluate(async (source) => {
    const answer = await fetch(source, { method: "POST", body: "{" });
    return { status: answer.status, body: await answer.json() };
  }, `${url}/v1/chat/completions`);
  return seen.status === 400 && seen.body.error.message;
});

await check("an aborted fetch frees its place", async () => {
  await page.evaluate(async (source) => {
    const control = new AbortController();
    const answer = await fetch(source, {
      method: "POST", signal: control.signal,
      body: JSON.stringify({ messages: [{ role: "user", content: "Count to one hundred." }],
                             stream: true, max_tokens: 900, ignore_eos: true }),
    });
    await answer.body.getReader().read();
    control.abort();
  }, `${url}/v1/chat/completions`);
  for (let i = 0; i < 200; i++) {
    const metrics = await (await fetch(`${url}/metrics`)).text();
    if (/^vllm:num_requests_running\{[^}]*\} 0$/m.test(metrics)) return true;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  return false;
});

await check("a page of another site reads nothing", async () => {
  await page.goto(`http://127.0.0.1:${foreign.address().port}/`);
  const seen = await page.evaluate(async (source) => {
    const get = await fetch(`${source}/health`).then(() => "read", () => "refused");
    const post = await fetch(`${source}/v1/chat/completions`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: "{}",
    }).then(() => "read", () => "refused");
    return { get, post };
  }, url);
  return seen.get === "refused" && seen.post === "refused";
});

await browser.close();
allowed.close();
foreign.close();
console.log(`[  PASSED  ] ${passed} test(s).`);
if (failed.length) console.log(`[  FAILED  ] ${failed.length} test(s): ${failed.join(", ")}`);
process.exit(failed.length ? 1 : 0);
