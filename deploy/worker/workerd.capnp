# The stock env.AI of workerd over a Firstlight server, without wrangler and without an account:
#   npm run build && npx workerd serve workerd.capnp
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "main", worker = .main),
    (name = "firstlight", external = (
      address = "127.0.0.1:8080",
      http = (
        # For a server with a key:
        # injectRequestHeaders = [(name = "Authorization", value = "Bearer ...")],
      ))),
  ],
  sockets = [(name = "http", address = "127.0.0.1:8787", http = (), service = "main")],
);

const main :Workerd.Worker = (
  modules = [(name = "entry.mjs", esModule = embed "dist/entry.js")],
  compatibilityDate = "2025-10-01",
  bindings = [
    (name = "AI", wrapped = (
      moduleName = "cloudflare-internal:ai-api",
      innerBindings = [(name = "fetcher", service = "firstlight")])),
  ],
);
