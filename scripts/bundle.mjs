// Turns TypeScript entry points into JavaScript that Node runs, with esbuild: the package itself, and single programs such as benchmarks.
// Threads need no files of their own: devices start them from text, which works from TypeScript sources as well.
import { existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename, dirname, join, relative } from "node:path";
import { pathToFileURL } from "node:url";
import { root } from "./command.mjs";

/** Stay packages of their own: native binaries, or optional. */
const EXTERNAL = ["koffi", "webgpu", "onnxruntime-node", "onnxruntime-web", "onnxruntime-common"];

const options = {
  bundle: true,
  format: "esm",
  platform: "node",
  target: "node20",
  splitting: true, // what is imported lazily stays lazy: a cold start reads only what it runs
  chunkNames: "[name]-[hash]", // beside the entries, so that import.meta.url means the same everywhere
  external: EXTERNAL,
  absWorkingDir: root,
  logLevel: "warning",
  metafile: true,
};

/** The package: entries → dist. Names survive, for stack traces. `buildId`: which build it is (run/build_id.ts). Returns the paths of all files that went in. */
export async function bundlePackage(entries, outdir, buildId) {
  const { build } = await import("esbuild");
  for (const old of existsSync(outdir) ? readdirSync(outdir) : []) if (old.endsWith(".js")) rmSync(join(outdir, old));
  const { metafile } = await build({
    ...options,
    entryPoints: entries,
    outdir,
    define: { HEDDLE_BUILD: JSON.stringify(buildId) },
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none", // collected in dist/THIRD-PARTY.txt
  });
  return Object.keys(metafile.inputs);
}

/** Outside src, import.meta.url keeps pointing at the source, where a program's pictures and data lie. */
const sourceUrls = {
  name: "source urls",
  setup(build) {
    build.onLoad({ filter: /\/(bench|examples|test)\/.*\.ts$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replaceAll("import.meta.url", JSON.stringify(pathToFileURL(path).href)),
      loader: "ts",
    }));
  },
};

/** One program (bench/…, examples/…) → build/<folder>/<name>.js; returns that path. */
export async function bundleProgram(file) {
  const { build } = await import("esbuild");
  const outdir = join(root, "build", relative(root, dirname(join(root, file))));
  const name = basename(file, ".ts");
  await build({
    ...options,
    entryPoints: { [name]: join(root, file) },
    outdir,
    splitting: false, // one file: stale parts would pile up
    sourcemap: "inline",
    plugins: [sourceUrls],
  });
  return join(outdir, `${name}.js`);
}
