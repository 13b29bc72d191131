// Bundles of our sources for tests that start processes of their own; below the repository, so that these find packages.
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

/** The repository. */
export const root = fileURLToPath(new URL("..", import.meta.url));

/** Writes `folder`/NAME.js for each source file, named from the root. */
export async function bundle(folder: string, sources: Readonly<Record<string, string>>): Promise<void> {
  await build({
    entryPoints: Object.fromEntries(Object.entries(sources).map(([name, file]) => [name, join(root, file)])),
    outdir: folder,
    bundle: true,
    format: "esm",
    platform: "node",
    target: "node20",
    splitting: true,
    external: ["koffi", "webgpu"],
    absWorkingDir: root,
    logLevel: "silent",
  });
}
