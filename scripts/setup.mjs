// Turns a fresh clone into one whose commands work: checks Node, installs the npm packages of package-lock.json, and Debian packages where asked.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { capture, Failure, isMain, main, root, say } from "./command.mjs";
import { SWIFTSHADER } from "./targets.mjs";

const NODE_WANTED = [20, 19];
const STAMP = join(root, "node_modules/.heddle-setup");

/** What a Debian package gives, and how to see that it is there. */
const DEBIAN = {
  "libonnx-testdata": { gives: "ONNX's conformance cases", proof: "/usr/share/libonnx-testdata/data" },
  chromium: { gives: "SwiftShader, a GPU in software that WebGPU is tested on, about 100 MB to fetch", proof: SWIFTSHADER },
  "dataset-fashion-mnist": { gives: "pictures to learn from", proof: "/usr/share/datasets/fashion-mnist/train-images-idx3-ubyte.gz" },
};

function checkNode() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  if (major > NODE_WANTED[0] || (major === NODE_WANTED[0] && minor >= NODE_WANTED[1])) return;
  throw new Failure(`heddle's development tools need Node ${NODE_WANTED.join(".")} or newer; this is ${process.version}.`);
}

/** Changes whenever an install could give something else. */
const fingerprint = () =>
  createHash("sha256")
    .update(`${process.platform} ${process.arch}\n`)
    .update(readFileSync(join(root, "package-lock.json")))
    .digest("hex");

const isInstalled = (stamp) => existsSync(STAMP) && readFileSync(STAMP, "utf8") === stamp;

/** No package here needs its install script: esbuild, koffi and onnxruntime-node bring their binaries; the last one's script would download CUDA's. */
const NPM_OPTIONS = ["--ignore-scripts", "--no-audit", "--no-fund", "--fetch-timeout=60000", "--fetch-retries=2", "--loglevel=error"];

function installPackages() {
  const stamp = fingerprint();
  if (isInstalled(stamp)) return;
  say("setup: installing npm packages (npm ci; half a minute, about 700 MB with the runtimes that benchmarks compare with)");
  const { status, output } = capture("npm", ["ci", ...NPM_OPTIONS], { minutes: 20 });
  if (status !== 0)
    throw new Failure(`${output.trim()}\n\nsetup: npm ci failed. It needs the npm registry once; everything after that works offline.`);
  for (const rival of ["onnxruntime-node", "onnxruntime-web"]) {
    if (!existsSync(join(root, "node_modules", rival)))
      say(`setup: optional package ${rival} is not installed: comparisons with it are skipped`);
  }
  writeFileSync(STAMP, stamp);
}

/** What apt-get complained of last. */
const reasonIn = (output) =>
  output
    .trim()
    .split("\n")
    .filter((line) => /^[EW]:/.test(line))
    .at(-1) ?? "apt-get failed";

/** Installs what is missing where apt and rights allow; says in one line what to do where they do not. Returns the packages still missing. */
function installDebian(packages) {
  const missing = packages.filter((name) => !existsSync(DEBIAN[name].proof));
  if (missing.length === 0) return [];
  const command = `apt-get install ${missing.join(" ")}`;
  const purpose = missing.map((name) => `${name} (${DEBIAN[name].gives})`).join(", ");
  if (capture("apt-get", ["--version"], { minutes: 1 }).status !== 0) {
    say(`setup: Debian package ${purpose} is missing, and this system has no apt`);
    return missing;
  }
  if (process.getuid?.() !== 0) {
    say(`setup: Debian package ${purpose} is missing; install it with: sudo ${command}`);
    return missing;
  }
  say(`setup: installing Debian package ${purpose}`);
  const patience = [
    "-o",
    "Acquire::http::Timeout=20",
    "-o",
    "Acquire::https::Timeout=20",
    "-o",
    "Acquire::Retries=1",
    "-o",
    "DPkg::Lock::Timeout=60",
  ];
  const apt = (minutes, ...args) => capture("apt-get", [...patience, ...args], { minutes, env: { DEBIAN_FRONTEND: "noninteractive" } });
  const install = (...names) => apt(10, "install", "-y", "--no-install-recommends", ...names);
  if (install(...missing).status !== 0) {
    say("setup: apt-get update");
    apt(3, "update"); // one failing source of several is no reason to stop: install tells
    for (const name of missing) {
      const { status, output } = install(name); // one that cannot be had keeps no other away
      if (status !== 0) say(`setup: could not install ${name} (${reasonIn(output)}); once the network is there: ${command}`);
    }
  }
  return missing.filter((name) => !existsSync(DEBIAN[name].proof));
}

/** Idempotent. `debian` names packages that the caller can use; it goes on without those that are returned. */
export function setup({ debian = [] } = {}) {
  checkNode();
  installPackages();
  return installDebian(debian);
}

if (isMain(import.meta.url)) {
  await main(() => {
    const missing = setup({ debian: Object.keys(DEBIAN) });
    say(missing.length === 0 ? "setup: everything is there" : `setup: everything needed is there; not: ${missing.join(" ")}`);
  });
}
