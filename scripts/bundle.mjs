// Turns TypeScript entry points into JavaScript that Node runs, with esbuild: the package itself, and single programs such as benchmarks.
// Threads need no files of their own: devices start them from text, which works from TypeScript sources as well.
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join, relative, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { Failure, root } from "./command.mjs";

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

/** Members of operators that only tests and training read: without them the bundle for browsers is a tenth smaller. */
const NOT_FOR_RUNNING = new Set(["samples", "vjp"]);

/** Whether what is called tells of a bug in heddle: which one, the stack says too. */
const isInvariant = (ts, node) => ts.isCallExpression(node) && node.expression.getText() === "invariant" && node.arguments.length === 2;

/** The text of a source without those members, and without what invariants say. */
async function withoutUnread(text, path) {
  const { default: ts } = await import("typescript");
  const cuts = [];
  const isOperator = path.includes("/src/ops/");
  const visit = (node) => {
    const members = isOperator && ts.isObjectLiteralExpression(node) ? node.properties : [];
    const unread = members.filter(({ name }) => name && ts.isIdentifier(name) && NOT_FOR_RUNNING.has(name.text));
    for (const { pos, end } of unread) cuts.push({ from: pos, to: text[end] === "," ? end + 1 : end });
    if (isInvariant(ts, node)) cuts.push({ from: node.arguments[0].end, to: node.arguments[1].end });
    ts.forEachChild(node, (child) => {
      if (!unread.includes(child)) visit(child);
    });
  };
  visit(ts.createSourceFile(path, text, ts.ScriptTarget.Latest, true));
  cuts.sort((a, b) => b.from - a.from); // from the end, so that places stay
  return cuts.reduce((rest, { from, to }) => rest.slice(0, from) + rest.slice(to), text);
}

/** x.browser.ts stands in for x.ts, and sources lose what running never reads. Modules that nothing is taken from are left out: none of src acts when loaded. */
const forBrowsers = {
  name: "for browsers",
  setup(build) {
    build.onResolve({ filter: /\/node\.ts$/ }, ({ path }) => ({ path, namespace: "absent" })); // what a device needs in Node only
    build.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, resolveDir }) => {
      const file = join(resolveDir, path);
      const own = file.replace(/\.ts$/, ".browser.ts");
      return { path: existsSync(own) ? own : file, sideEffects: false };
    });
    build.onLoad({ filter: /./, namespace: "absent" }, () => ({ contents: "" }));
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => ({
      contents: await withoutUnread(readFileSync(path, "utf8"), path),
      loader: "ts",
    }));
  },
};

const browserOptions = {
  ...options,
  platform: "browser",
  target: "es2022",
  minify: true,
  legalComments: "none", // collected in dist/THIRD-PARTY.txt
  define: { process: "undefined", Buffer: "undefined" }, // what asks for Node finds that it is not there, and goes
  tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } }, // members are named once, where they get their value
  plugins: [forBrowsers],
};

/** Nothing here calls an arrow with `new`, or counts on what reading a member does. */
const COMPRESS = { ecma: 2022, passes: 3, unsafe_arrows: true, pure_getters: true };

/** Takes another twentieth off what esbuild leaves, and seconds. */
async function smallest(text) {
  const { minify } = await import("terser");
  return (await minify(text, { module: true, ecma: 2022, compress: COMPRESS })).code;
}

/** Entries → outdir as browsers load them: a file each, and what is imported lazily apart. Returns the paths of all files that went in. */
export async function bundleForBrowsers(entries, outdir) {
  const { build } = await import("esbuild");
  rmSync(outdir, { recursive: true, force: true });
  const { metafile, outputFiles } = await build({ ...browserOptions, entryPoints: entries, outdir, write: false });
  const own = new Set(Object.keys(metafile.outputs).map((file) => resolve(root, file)));
  for (const { imports } of Object.values(metafile.outputs)) {
    const foreign = imports.filter(({ path }) => !own.has(resolve(root, path)));
    if (foreign.length > 0) throw new Failure(`${outdir} would import ${foreign.map(({ path }) => path).join(", ")}, which no browser has`);
  }
  mkdirSync(outdir, { recursive: true });
  for (const { path, text } of outputFiles) {
    writeFileSync(path, await smallest(text));
  }
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
