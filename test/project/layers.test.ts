// The layers of the design: no file imports one of a layer that it may not see, and no files load each other in a circle.
import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { importsOf, loadsOf, readSources, root } from "./sources.ts";

const files = readSources("src");

/** What each folder of src may import besides itself. Files at the top of src, and cli, join all of it. */
const SEES: Readonly<Record<string, readonly string[]>> = {
  ir: [],
  sparse: ["ir"],
  ops: ["ir"],
  formats: ["ir", "ops", "sparse"],
  data: ["ir", "formats"],
  text: ["ir", "formats"],
  passes: ["ir", "ops"],
  lower: ["ir"],
  kernels: ["ir", "lower", "sparse"],
  codegen: ["ir"],
  devices: ["ir", "codegen"],
  run: ["ir", "sparse", "ops", "passes", "lower", "kernels", "codegen", "devices"],
  tensor: ["ir", "sparse", "ops", "passes", "devices", "run"],
  nn: ["ir", "sparse", "formats", "tensor"],
  optim: ["ir", "tensor"],
  train: ["ir", "formats", "data", "tensor", "nn", "optim", "compress"],
  compress: ["ir", "sparse", "ops", "formats", "passes", "devices", "run", "tensor", "nn", "optim", "data"],
  top: ["ir", "sparse", "ops", "formats", "passes", "lower", "kernels", "codegen", "devices", "run", "tensor", "nn", "optim", "web"],
  web: ["ir", "ops", "formats", "devices", "run", "top"],
  cli: [
    "ir",
    "sparse",
    "ops",
    "formats",
    "passes",
    "lower",
    "kernels",
    "codegen",
    "devices",
    "run",
    "tensor",
    "nn",
    "optim",
    "train",
    "compress",
    "top",
  ],
};

const layerOf = (path: string): string => /^src\/([^/]+)\//.exec(path)?.[1] ?? "top";

test("there are sources, and every folder has a place", () => {
  expect(files.length).toBeGreaterThan(50);
  expect(files.map(({ path }) => layerOf(path)).filter((layer) => !(layer in SEES))).toEqual([]);
});

test("imports lead to files", () => {
  const lost = files.flatMap((file) =>
    importsOf(file)
      .filter((to) => !existsSync(join(root, to)))
      .map((to) => `${file.path} → ${to}`),
  );
  expect(lost).toEqual([]);
});

test("imports go down the layers", () => {
  const wrong = files.flatMap((file) => {
    const from = layerOf(file.path);
    const seen = [from, ...SEES[from]];
    return importsOf(file)
      .filter((to) => !to.startsWith("src/") || !seen.includes(layerOf(to)))
      .map((to) => `${file.path} → ${to}`);
  });
  expect(wrong).toEqual([]);
});

/** Devices whose language has another name. */
const LANGUAGES: Readonly<Record<string, string>> = { webgpu: "wgsl" };

test("targets do not know each other, nor do devices", () => {
  const folder = (path: string): string | undefined => /^src\/(?:codegen|devices)\/(\w+)\//.exec(path)?.[1];
  const part = (path: string): string | undefined => LANGUAGES[folder(path) ?? ""] ?? folder(path);
  const wrong = files.flatMap((file) =>
    importsOf(file)
      .filter((to) => part(file.path) && part(to) && part(file.path) !== part(to))
      .map((to) => `${file.path} → ${to}`),
  );
  expect(wrong).toEqual([]);
});

test("no circle of files that load each other", () => {
  const edges = new Map(files.map((file) => [file.path, loadsOf(file)]));
  const done = new Set<string>();
  const circles: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    if (trail.includes(path)) circles.push([...trail.slice(trail.indexOf(path)), path].join(" → "));
    else if (!done.has(path)) for (const to of edges.get(path) ?? []) visit(to, [...trail, path]);
    done.add(path);
  };
  for (const path of edges.keys()) visit(path, []);
  expect(circles).toEqual([]);
});
