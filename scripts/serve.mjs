// Serves a folder to browsers with the headers that make its pages cross-origin isolated, which threads on shared memory need.
import { createReadStream, statSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize, sep } from "node:path";

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".jpg": "image/jpeg",
  ".svg": "image/svg+xml",
};
const ISOLATION = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

/** The file of a request; null where there is none inside the folder. */
function fileOf(folder, url) {
  try {
    const path = normalize(join(folder, decodeURIComponent(new URL(url, "http://localhost").pathname)));
    const file = path.endsWith(sep) ? join(path, "index.html") : path;
    return file.startsWith(join(folder, sep)) && statSync(file).isFile() ? file : null;
  } catch {
    return null; // a name that cannot be one, or no such file
  }
}

/** Resolves to the server once it listens on this machine; port 0: any that is free. `isIsolated`: whether it sends the headers. */
export function serve(folder, { port = 0, isIsolated = true } = {}) {
  const server = createServer((request, response) => {
    const file = fileOf(folder, request.url ?? "/");
    const headers = { "cache-control": "no-cache", ...(isIsolated ? ISOLATION : {}) };
    if (!file || (request.method !== "GET" && request.method !== "HEAD")) {
      response.writeHead(file ? 405 : 404, { ...headers, "content-type": "text/plain" }).end(file ? "only GET\n" : "not found\n");
      return;
    }
    response.writeHead(200, { ...headers, "content-type": TYPES[extname(file)] ?? "application/octet-stream" });
    if (request.method === "HEAD") response.end();
    else
      createReadStream(file)
        .on("error", () => response.destroy())
        .pipe(response);
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}
