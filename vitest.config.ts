// How tests run: TypeScript as it is, each file in a process of its own, since a wrong kernel ends the process it runs in.
import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    env: { HEDDLE_CACHE: "off" }, // tests compile afresh, and leave nothing in the user's folders
    include: ["test/**/*.test.ts"],
    pool: "forks",
    maxWorkers: 2,
    testTimeout: 120_000, // none takes long by itself: the machine may be shared
    hookTimeout: 120_000,
    teardownTimeout: 10_000,
  },
});
