// Products of float8 numbers are for libraries, which browsers do not have.
import type { Pass } from "../ir/graph.ts";

const nothing = (): Pass => ({ name: "float8Products", run: (graph) => graph });

export { nothing as float8Products, nothing as float8Weights };
