// Gives a Worker an env.AI that is served by Firstlight, and one thing that the stock binding
// lacks: `.body` on a streamed answer.
//
//   import worker from "./worker";
//   import { withFirstlight } from "./firstlight";
//   export default withFirstlight(worker);
//
// Where env.AI exists already (workerd.capnp binds the stock one) it is used; where it does
// not, one is made that speaks the same wire to FIRSTLIGHT_URL. The second works wherever a
// Worker runs: wrangler dev, a deployed Worker, plain workerd.

export interface FirstlightEnv {
  AI: Ai;
  FIRSTLIGHT_URL?: string; // http://127.0.0.1:8080
  FIRSTLIGHT_KEY?: string; // a secret; sent as Bearer token
}

interface RunOptions {
  prefix?: string;
  extraHeaders?: Record<string, string>;
  signal?: AbortSignal;
  returnRawResponse?: boolean;
  [name: string]: unknown;
}

/** Shaped as the stock binding's errors are: message "5007: No such model ...". */
class InferenceUpstreamError extends Error {
  override name = "InferenceUpstreamError";
}

async function failureOf(response: Response): Promise<Error> {
  const text = await response.text();
  try {
    const told = JSON.parse(text);
    if (told.internalCode) {
      const error = new InferenceUpstreamError(`${told.internalCode}: ${told.description}`);
      error.name = told.name ?? error.name;
      return error;
    }
    const first = told.errors?.[0];
    if (first) return new InferenceUpstreamError(`${first.code}: ${first.message}`);
  } catch {
    // Not JSON: a proxy's page, say. The text is all there is.
  }
  return new InferenceUpstreamError(text || `HTTP ${response.status}`);
}

/** The binding over HTTP: POST /run with the model in a header, as workerd sends it. */
class FirstlightAi {
  lastRequestId: string | null = null;
  aiGatewayLogId: string | null = null;

  constructor(
    private readonly url: string,
    private readonly key?: string,
  ) {}

  async run(model: string, inputs: unknown, options: RunOptions = {}): Promise<unknown> {
    const { prefix, extraHeaders, signal, returnRawResponse, ...rest } = options;
    const response = await this.send("/run?version=3", {
      method: "POST",
      signal,
      headers: {
        ...extraHeaders,
        "content-type": "application/json",
        "cf-consn-model-id": prefix ? `${prefix}:${model}` : model,
      },
      body: JSON.stringify({ inputs, options: rest }),
    });
    this.lastRequestId = response.headers.get("cf-ai-req-id");
    if (returnRawResponse) return response;
    if (!response.ok || !response.body) throw await failureOf(response);
    const type = response.headers.get("content-type");
    return type === "application/json" ? response.json() : response.body;
  }

  async models(params: Record<string, string> = {}): Promise<unknown> {
    const query = new URLSearchParams(params);
    const response = await this.send(`/ai-api/models/search?${query}`, {});
    if (!response.ok) throw await failureOf(response);
    const told = (await response.json()) as { result: unknown };
    return told.result;
  }

  private send(path: string, init: RequestInit): Promise<Response> {
    const headers = new Headers(init.headers);
    if (this.key) headers.set("authorization", `Bearer ${this.key}`);
    return fetch(new URL(path, this.url), { ...init, headers });
  }
}

/** Code that returns `answer.body` of a streamed run gets the stream: on the stock binding the
 * answer is the stream already and has no such member, so that such a Worker answers nothing. */
export function withBody<T extends { run: (...args: any[]) => Promise<any> }>(ai: T): T {
  return new Proxy(ai, {
    get(target, name) {
      const member = Reflect.get(target, name, target);
      if (typeof member !== "function") return member;
      if (name !== "run") return member.bind(target);
      return async (...args: unknown[]) => {
        const answer = await member.apply(target, args);
        if (answer instanceof ReadableStream)
          Object.defineProperty(answer, "body", { value: answer, configurable: true });
        return answer;
      };
    },
  });
}

function bind<E extends FirstlightEnv>(env: E): E {
  const url = env.FIRSTLIGHT_URL;
  if (!env.AI && !url) throw new Error("set FIRSTLIGHT_URL to the address of a Firstlight server");
  const ai = env.AI ?? (new FirstlightAi(url as string, env.FIRSTLIGHT_KEY) as unknown as Ai);
  return { ...env, AI: withBody(ai as any) };
}

/** The same Worker, its handlers called with the bound env. */
export function withFirstlight<E extends FirstlightEnv>(worker: ExportedHandler<E>): ExportedHandler<E> {
  const bound: Record<string, unknown> = {};
  for (const [name, handler] of Object.entries(worker))
    bound[name] =
      typeof handler === "function"
        ? (event: unknown, env: E, ctx: ExecutionContext) => (handler as any).call(worker, event, bind(env), ctx)
        : handler;
  return bound as ExportedHandler<E>;
}
