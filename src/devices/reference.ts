// The reference device: runs a graph in float64, plain and slow, as the meaning that every other device is compared with.
import type { Graph } from "../ir/graph.ts";
import type { TensorData } from "../ir/tensor.ts";
import { evaluateGraph } from "../ops/evaluate.ts";

/** Output tensors by name. Throws HeddleError when an input is missing or has the wrong type. */
export const runReference = (graph: Graph, inputs: Readonly<Record<string, TensorData>>): Record<string, TensorData> =>
  evaluateGraph(graph, inputs);
