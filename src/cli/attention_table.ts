// Which kernels attention got on a CPU: rows for JSON, and a table.
import type { AnyProgram } from "../model.ts";
import { maskedGeometry } from "../ops/masked_attention.ts";
import { describeNode } from "../run/describe.ts";
import { GpuProgram } from "../run/gpu/program.ts";
import { clip, formatTable } from "./table.ts";

export interface AttentionRow {
  /** Its name in the model. */
  readonly layer: string;
  /** Of queries, of all examples. */
  readonly heads: number;
  readonly queries: number;
  readonly keys: number;
  /** Of keys. */
  readonly columns: number;
  /** Keys behind a query's place are not computed. */
  readonly isCausal: boolean;
  /** Tiles of queries with blocks of keys, or a line of scores for each query. */
  readonly kernel: "tiles" | "lines";
  /** Whether keys or values are copied before, since their places would push each other out of caches. */
  readonly isCopied: boolean;
}

/** Layers whose scores are not stored, in the order in which they run; none on GPUs. What is left to products and a softmax is not among them. */
export function attentionRows(program: AnyProgram): AttentionRow[] {
  if (program instanceof GpuProgram) return [];
  return program.schedule.steps.flatMap(({ node, calls }) => {
    if (node.op.name !== "MaskedAttention" || !calls) return [];
    const { batch, heads, group, queries, keys, depth, before } = maskedGeometry(node);
    const isLines = calls[calls.length - 1].kernel.name.endsWith("_rows");
    return {
      layer: describeNode(node).name,
      ...{ heads: batch * heads * group, queries, keys, columns: depth, isCausal: before >= 0 },
      ...{ kernel: isLines ? ("lines" as const) : ("tiles" as const), isCopied: calls.length > 1 },
    };
  });
}

const NAME_WIDTH = 36;

/** Lines to add to a report; none where there is no attention. */
export function attentionText(rows: readonly AttentionRow[]): string[] {
  if (rows.length === 0) return [];
  const cells = rows.map((r) => [
    clip(r.layer, NAME_WIDTH),
    `${r.heads}x${r.columns}`,
    String(r.queries),
    `${r.keys}${r.isCausal ? " by order" : ""}`,
    r.isCopied ? `${r.kernel}, copied keys` : r.kernel,
  ]);
  return [
    "",
    "attention whose scores stay in caches:",
    formatTable(["layer", "heads", "queries", "keys", "kernel"], cells, { left: [0, 4] }),
  ];
}
