// An ordinary Workers AI Worker: nothing in it knows of Firstlight.
//   GET /            one whole answer
//   GET /stream      the same as server-sent events
//   GET /error       how a failure looks
//   ?prompt=...      what to ask
export interface Env {
  AI: Ai;
}

const model = "@cf/meta/llama-2-7b-chat-int8";

export default {
  async fetch(request: Request, env: Env): Promise<Response> {
    const url = new URL(request.url);
    const prompt = url.searchParams.get("prompt") ?? "What is the capital of France?";
    if (url.pathname === "/stream") {
      const answer: any = await env.AI.run(model as any, { prompt, stream: true } as any);
      return new Response(answer.body, { headers: { "content-type": "text/event-stream" } });
    }
    if (url.pathname === "/error") {
      try {
        await env.AI.run("@cf/none/such" as any, { prompt } as any);
      } catch (error: any) {
        return Response.json({ name: error.name, message: error.message }, { status: 500 });
      }
    }
    return Response.json(await env.AI.run(model as any, { prompt } as any));
  },
};
