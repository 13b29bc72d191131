// Loads the operators of a network that a page does not have yet.
import type { OnnxModel } from "../formats/onnx/read.ts";
import { addOperators, OPS } from "../ops/index.ts";

/** Of the importer's own. */
const CONSTANT = "Constant";

/** Those that few networks have are one piece; operators with sub-graphs are among them, so that these need no look. */
export async function loadOperators({ graph, proto }: OnnxModel): Promise<void> {
  const nodes = [graph, ...proto.functions].flatMap(({ node }) => node);
  const isKnown = nodes.every(({ opType }) => opType === CONSTANT || OPS.has(opType));
  if (!isKnown) addOperators((await import("../ops/rare.ts")).RARE_OPS);
}
