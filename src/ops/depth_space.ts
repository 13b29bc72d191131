// DepthToSpace and SpaceToDepth: blocks of the plane to channels and back.
import { HeddleError } from "../ir/error.ts";
import { type Builder, defineOp, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { addIndex, divIndex, type Index, modIndex, mulIndex } from "../ir/index_expr.ts";
import { f32, inputType, the } from "./define.ts";

function plane(op: string, inputs: readonly (Value | null)[]): TensorType {
  const x = inputType(op, inputs, 0);
  if (x.shape.length !== 4) throw new HeddleError("bad-model", `${op}: got shape (${x.shape}), wanted (N,C,H,W)`);
  return x;
}

/** (n, c, h·b, w·b) → (n, c·b², h, w), the place in the block after the channel. */
function blocksToChannels(build: Builder, x: Value, b: number): Value {
  const [n, c, h, w] = x.type.shape;
  const apart = build.reshape(x, [n, c, h / b, b, w / b, b]);
  return build.reshape(build.transpose(apart, [0, 1, 3, 5, 2, 4]), [n, c * b * b, h / b, w / b]);
}

const DepthToSpace: Op = defineOp<{ blocksize: number; mode: string }>({
  name: "DepthToSpace",
  kind: "view",
  attrs: { blocksize: { type: "int" }, mode: { type: "string", default: "DCR" } },
  infer(inputs, { blocksize: b, mode }) {
    const { dtype, shape } = plane("DepthToSpace", inputs);
    const [n, c, h, w] = shape;
    if (b < 1 || c % (b * b) !== 0) throw new HeddleError("bad-model", `DepthToSpace: ${c} channels do not divide by ${b}²`);
    if (mode !== "DCR" && mode !== "CRD") throw new HeddleError("bad-model", `DepthToSpace: mode is ${mode}, wanted DCR or CRD`);
    return [{ dtype, shape: [n, c / (b * b), h * b, w * b] }];
  },
  lower([input], node) {
    const { type } = node.outputs[0];
    const { blocksize: b, mode } = node.attrs;
    const at = ([n, c, h, w]: readonly Index[]) => {
      const inBlock = addIndex(mulIndex(modIndex(h, b), b), modIndex(w, b));
      // DCR: channel = block position · C' + c; CRD: c · b² + block position.
      const channel = mode === "DCR" ? addIndex(mulIndex(inBlock, type.shape[1]), c) : addIndex(mulIndex(c, b * b), inBlock);
      return the(input).at([n, channel, divIndex(h, b), divIndex(w, b)]);
    };
    return [{ type, at }];
  },
  vjp: ({ build, grad }, { attrs: { blocksize, mode } }) => [
    mode === "DCR" ? build.op("SpaceToDepth", [grad(0)], { blocksize }) : blocksToChannels(build, grad(0)!, blocksize), // the only output
  ],
  flops: () => 0,
  samples: [
    { inputs: [f32(1, 8, 3, 5)], attrs: { blocksize: 2 } },
    { inputs: [f32(2, 9, 2, 3)], attrs: { blocksize: 3, mode: "CRD" } },
    { inputs: [f32(1, 3, 2, 2)], attrs: { blocksize: 1 } },
  ],
});

const SpaceToDepth: Op = defineOp<{ blocksize: number }>({
  name: "SpaceToDepth",
  kind: "view",
  attrs: { blocksize: { type: "int" } },
  infer(inputs, { blocksize: b }) {
    const { dtype, shape } = plane("SpaceToDepth", inputs);
    const [n, c, h, w] = shape;
    if (b < 1 || h % b !== 0 || w % b !== 0) throw new HeddleError("bad-model", `SpaceToDepth: ${h} × ${w} does not divide by ${b}`);
    return [{ dtype, shape: [n, c * b * b, h / b, w / b] }];
  },
  lower([input], node) {
    const x = the(input);
    const { blocksize: b } = node.attrs;
    const channels = Math.max(1, x.type.shape[1]);
    return [
      {
        type: node.outputs[0].type,
        at([n, c, h, w]) {
          const inBlock = divIndex(c, channels);
          const row = addIndex(mulIndex(h, b), divIndex(inBlock, b));
          const column = addIndex(mulIndex(w, b), modIndex(inBlock, b));
          return x.at([n, modIndex(c, channels), row, column]);
        },
      },
    ];
  },
  vjp: ({ build, grad }, { attrs: { blocksize } }) => [build.op("DepthToSpace", [grad(0)], { blocksize })],
  flops: () => 0,
  samples: [
    { inputs: [f32(1, 2, 4, 6)], attrs: { blocksize: 2 } },
    { inputs: [f32(2, 1, 3, 3)], attrs: { blocksize: 3 } },
  ],
});

export const depthSpaceOps: readonly Op[] = [DepthToSpace, SpaceToDepth];
