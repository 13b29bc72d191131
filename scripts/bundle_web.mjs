// Turns an entry into JavaScript that browsers load, with esbuild and terser: all that every page needs in one file, and what few need apart.
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Failure, root } from "./command.mjs";
import { shortNames } from "./shorten.mjs";
import { forRunning, withoutUnnamed } from "./unread.mjs";

/** x.browser.ts stands in for x.ts, and sources lose what running never reads. Modules that nothing is taken from are left out: none of src acts when loaded. */
const forBrowsers = {
  name: "for browsers",
  setup(build) {
    build.onResolve({ filter: /\/node\.ts$/ }, ({ path }) => ({ path, external: true })); // what a device needs in Node only, where `process` is
    build.onResolve({ filter: /^\.{1,2}\/.*\.ts$/ }, ({ path, resolveDir }) => {
      const file = join(resolveDir, path);
      const own = file.replace(/\.ts$/, ".browser.ts");
      return { path: existsSync(own) ? own : file, sideEffects: false };
    });
    build.onLoad({ filter: /\/src\/.*\.ts$/ }, async ({ path }) => ({
      contents: await forRunning(readFileSync(path, "utf8"), path),
      loader: "ts",
    }));
  },
};

const options = {
  bundle: true,
  format: "esm",
  platform: "browser",
  target: "es2022",
  absWorkingDir: root,
  logLevel: "warning",
  legalComments: "none", // collected in dist/THIRD-PARTY.txt
  metafile: true,
  write: false,
};

/** The files that esbuild splits the entry into: their texts, with names as in the sources, what they import and export, and the paths of all sources. */
async function split(entryPoints, outdir) {
  const { build } = await import("esbuild");
  const { metafile, outputFiles } = await build({
    ...options,
    entryPoints,
    outdir,
    splitting: true,
    minifySyntax: true,
    chunkNames: "[name]-[hash]",
    define: { process: "undefined", Buffer: "undefined" }, // what asks for Node finds that it is not there, and goes
    tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } }, // members are named once, where they get their value
    plugins: [forBrowsers],
  });
  const named = new Map(Object.entries(metafile.outputs).map(([path, output]) => [basename(path), output]));
  for (const { imports } of named.values()) {
    const foreign = imports.filter(({ path }) => !named.has(basename(path)));
    if (foreign.length > 0) throw new Failure(`${outdir} would import ${foreign.map(({ path }) => path).join(", ")}, which no browser has`);
  }
  const texts = new Map(outputFiles.map(({ path, text }) => [basename(path), text]));
  return { named, texts, sources: Object.keys(metafile.inputs) };
}

/** A file and all that it imports, but for what it loads when needed. */
function loadedWith(file, named, found = new Set()) {
  found.add(file);
  for (const { path, kind } of named.get(file).imports) {
    if (kind === "import-statement" && !found.has(basename(path))) loadedWith(basename(path), named, found);
  }
  return found;
}

/** As esbuild prints it. */
const IMPORT = /^import (?:\{([^}]*)\} from )?"\.\/([\w-]+\.js)";$/gm;

/** `text` with what it imports from files that are joined taken from `whole`, which names each once, in `given`: file and name → that name. */
const importing = (text, joined, whole, given) =>
  text.replace(IMPORT, (statement, names = "", file) => {
    if (!joined.has(file)) return statement;
    const taken = names.match(/[\w$]+(?: as [\w$]+)?/g) ?? [];
    const renamed = taken.map((item) => {
      const [theirs, ours = theirs] = item.split(" as ");
      const key = `${theirs} ${file}`;
      if (!given.has(key)) given.set(key, `$${given.size}`);
      return `${given.get(key)} as ${ours}`;
    });
    return renamed.length > 0 ? `import {${renamed.join()}} from "./${whole}";` : "";
  });

/** Nothing here calls an arrow with `new`, or counts on what reading a member does. Constants to the left of comparisons compress worse. */
const COMPRESS = { ecma: 2022, passes: 3, unsafe_arrows: true, pure_getters: true, lhs_constants: false };

/** `contents` with those of `texts` that it imports, in as few bytes as can be: terser takes another twentieth off what esbuild leaves, and seconds. `members`: their short names. */
async function smallest(contents, members, texts = new Map()) {
  const inside = {
    name: "joined",
    setup(build) {
      build.onResolve({ filter: /./ }, ({ path, kind }) =>
        kind === "import-statement" && texts.has(basename(path))
          ? { path: basename(path), namespace: "joined", sideEffects: true }
          : { path, external: true },
      );
      build.onLoad({ filter: /./, namespace: "joined" }, ({ path }) => ({ contents: texts.get(path) }));
    },
  };
  const { build } = await import("esbuild");
  const { outputFiles } = await build({ ...options, stdin: { contents }, minify: true, plugins: [inside] });
  const { minify } = await import("terser");
  const mangle = { properties: { only_cache: true, cache: { props: new Map(members) } } };
  return (await minify(outputFiles[0].text, { module: true, ecma: 2022, compress: COMPRESS, mangle })).code;
}

/** Whether the code there is from where what callers are handed is. */
const isFace = (text, place) => /^\/\/ (?:src\/)?web\//.test(text.slice(text.lastIndexOf("\n// ", place) + 1));

/**
 * An entry → outdir as browsers load it: its file names what it exports, `engine-….js` has all that it always needs, and what is imported
 * lazily lies apart: many files would compress worse. Returns the paths of all sources that went in.
 */
export async function bundleForBrowsers(entryPoints, outdir) {
  const { named, texts: whole, sources } = await split(entryPoints, outdir);
  const texts = await withoutUnnamed(whole, isFace);
  const members = await shortNames(texts, isFace);
  const [entry] = Object.keys(entryPoints).map((name) => `${name}.js`);
  const always = loadedWith(entry, named);
  const hash = createHash("sha256")
    .update([...texts.values()].join())
    .digest("hex")
    .slice(0, 8);
  const engine = `engine-${hash}.js`;
  const given = new Map();
  const later = [...texts].filter(([file]) => !always.has(file)).map(([file, text]) => [file, importing(text, always, engine, given)]);
  const exported = [...given].map(([key, name]) => `export { ${key.replace(" ", ` as ${name} } from "./`)}";`);
  const own = named.get(entry).exports;
  const files = [
    [entry, await smallest(`${own.length > 0 ? `export { ${own.join()} } from` : "import"} "./${engine}";`, members)],
    [engine, await smallest(`export * from "./${entry}";\n${exported.join("\n")}`, members, texts)],
  ];
  for (const [file, text] of later) files.push([file, await smallest(text, members)]);
  rmSync(outdir, { recursive: true, force: true });
  mkdirSync(outdir, { recursive: true });
  for (const [file, text] of files) writeFileSync(join(outdir, file), text);
  return sources;
}
