// The Worker of deploy/worker in wrangler and in workerd, against a running server:
//   cd deploy/worker && npm install && npm run build
//   node ../../tests/clients/worker.mjs http://127.0.0.1:8080 deploy/worker
// Aim: what its README promises, the `.body` of a stream above all; the two bindings, ours over
// HTTP and workerd's own, must not be told apart.
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join, resolve } from "node:path";

const url = process.argv[2] ?? "http://127.0.0.1:8080";
const folder = resolve(process.argv[3] ?? ".");
const bin = (name) => join(folder, "node_modules", ".bin", name);
let passed = 0;
const failed = [];

function freePort() {
  return new Promise((done) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => done(port));
    });
  });
}

async function reach(address) {
  for (let i = 0; i < 300; i++) {
    try {
      return await fetch(address);
    } catch {
      await new Promise((resume) => setTimeout(resume, 100));
    }
  }
  throw new Error(`${address} does not answer`);
}

async function check(name, test) {
  try {
    const wrong = await test();
    if (wrong) throw new Error(wrong);
    passed++;
    console.log(`[       OK ] ${name}`);
  } catch (error) {
    failed.push(name);
    console.log(`[ FAILED ] ${name}: ${error.message}`);
  }
}

async function suite(name, port, start) {
  const child = start(port);
  const base = `http://127.0.0.1:${port}`;
  try {
    await reach(`${base}/?prompt=Hello`);
    await check(`${name}: whole`, async () => {
      const answer = await (await fetch(`${base}/?prompt=What+is+the+capital+of+Spain%3F`)).json();
      return answer.response?.includes("Madrid") ? null : JSON.stringify(answer);
    });
    await check(`${name}: the stream's .body`, async () => {
      const text = await (await fetch(`${base}/stream`)).text();
      const said = text.split("\n\n").filter((e) => e.startsWith("data: {"))
        .map((e) => JSON.parse(e.slice(6)).response).join("");
      return said.includes("Paris") && text.endsWith("data: [DONE]\n\n") ? null : text;
    });
    await check(`${name}: an error is thrown with code and words`, async () => {
      const reply = await fetch(`${base}/error`);
      const told = await reply.json();
      return told.message?.startsWith("5007: No such model") ? null : JSON.stringify(told);
    });
  } finally {
    process.kill(-child.pid, "SIGTERM");
  }
}

const quiet = { cwd: folder, stdio: "ignore", detached: true, env: { ...process.env, CI: "1" } };

await suite("wrangler dev", await freePort(), (port) =>
  spawn(bin("wrangler"), ["dev", "--port", String(port), "--var", `FIRSTLIGHT_URL:${url}`], quiet));

await suite("workerd", await freePort(), (port) => {
  const config = readFileSync(join(folder, "workerd.capnp"), "utf8")
    .replace("127.0.0.1:8080", new URL(url).host)
    .replace("127.0.0.1:8787", `127.0.0.1:${port}`);
  writeFileSync(join(folder, "dist", "test.capnp"), config.replace("dist/entry.js", "entry.js"));
  return spawn(bin("workerd"), ["serve", join(folder, "dist", "test.capnp")], quiet);
});

console.log(`[  PASSED  ] ${passed} test(s).`);
if (failed.length) console.log(`[  FAILED  ] ${failed.length} test(s): ${failed.join(", ")}`);
process.exit(failed.length ? 1 : 0);
