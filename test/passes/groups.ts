// Checks groups against the contract of ir/group.ts.
import { expect } from "vitest";
import { type Graph, topologicalOrder } from "../../src/ir/graph.ts";
import { Group, groupAttrs } from "../../src/ir/group.ts";
import { elementCount } from "../../src/ir/tensor.ts";
import { constantOf } from "../../src/ops/source.ts";
import { readsOf } from "../../src/passes/reads.ts";

/** Fails when a group breaks the contract: its inputs, its anchor, what may follow that, and which constants are inside. */
export function checkGroups(graph: Graph): void {
  for (const node of topologicalOrder(graph)) {
    if (node.op !== Group) continue;
    const { body, anchor } = groupAttrs(node);
    if (anchor) expect(body.outputs).toHaveLength(1);
    expect(body.outputs.map((o) => o.value.type)).toEqual(node.outputs.map((o) => o.type));
    expect(new Set(node.outputs.map((o) => o.type.shape.join())).size).toBe(1);
    expect(body.inputs.map((v) => v.type)).toEqual(node.inputs.map((v) => v!.type));
    for (const inner of topologicalOrder(body)) {
      if (inner.op.kind === "source") continue;
      expect(inner === anchor || inner.op.lower !== undefined).toBe(true);
      if (anchor && inner !== anchor) {
        expect(inner.op.kind).toBe("map");
        expect(inner.outputs[0].type.shape).toEqual(anchor.outputs[0].type.shape);
      }
      for (const [i, v] of inner.inputs.entries()) {
        const tensor = constantOf(v);
        if (tensor && inner !== anchor) expect(elementCount(tensor.shape) === 1 || !readsOf(inner).has(i)).toBe(true);
        if (inner === anchor && v && !tensor) expect(body.inputs).toContain(v);
      }
    }
  }
}
