// Einsum: sums of products over labelled axes, as transposes, sums and matrix products.
import { HeddleError } from "../ir/error.ts";
import { type Builder, defineOp, type Op, type TensorType, type Value } from "../ir/graph.ts";
import { elementCount } from "../ir/tensor.ts";
import { builder } from "./build.ts";
import { f32, inputType, sameDType } from "./define.ts";
import { MATMUL_TYPES, MatMul } from "./matmul.ts";

/** One label for each axis; those under an ellipsis are "0", "1", …, counted from the last axis. */
type Labels = readonly string[];

interface Equation {
  readonly terms: readonly Labels[];
  readonly output: Labels;
  readonly sizes: ReadonlyMap<string, number>;
}

const bad = (equation: string, why: string) => new HeddleError("bad-model", `Einsum: "${equation}": ${why}`);

/** Labels of a term of `rank` axes. */
function labelsOf(equation: string, term: string, rank: number): string[] {
  const parts = term.split("...");
  const letters = parts.join("");
  if (parts.length > 2 || !/^[A-Za-z]*$/.test(letters)) throw bad(equation, `term "${term}" is not letters with one ellipsis at most`);
  const covered = rank - letters.length;
  if (covered < 0 || (parts.length === 1 && covered !== 0)) throw bad(equation, `term "${term}" does not fit an input with ${rank} axes`);
  const ellipsis = Array.from({ length: covered }, (_, i) => String(covered - 1 - i));
  return [...parts[0], ...(parts.length === 2 ? ellipsis : []), ...(parts[1] ?? "")];
}

const isEllipsis = (label: string) => label >= "0" && label <= "9";

/** Labels and sizes. Without an arrow the output has the ellipsis and, in alphabetic order, the labels that occur once. */
function parse(text: string, types: readonly TensorType[]): Equation {
  const equation = text.replaceAll(" ", "");
  const [left, right, ...rest] = equation.split("->");
  const words = left.split(",");
  if (rest.length > 0 || words.length !== types.length) throw bad(text, `${words.length} terms for ${types.length} inputs`);
  const terms = words.map((word, i) => labelsOf(text, word, types[i].shape.length));
  const sizes = new Map<string, number>();
  for (const [i, labels] of terms.entries())
    for (const [axis, label] of labels.entries()) {
      const d = types[i].shape[axis];
      const known = sizes.get(label) ?? 1;
      if (known !== 1 && d !== 1 && known !== d) throw bad(text, `label ${label} is both ${known} and ${d}`);
      sizes.set(label, known === 1 ? d : known);
    }
  const covered = [...sizes.keys()].filter(isEllipsis).sort((a, b) => Number(b) - Number(a));
  const all = terms.flat();
  const once = [...sizes.keys()].filter((l) => !isEllipsis(l) && all.indexOf(l) === all.lastIndexOf(l)).sort();
  const output =
    right === undefined
      ? [...covered, ...once]
      : labelsOf(text, right, right.replace("...", "").length + (right.includes("...") ? covered.length : 0));
  const unknown = output.find((l, i) => !sizes.has(l) || output.indexOf(l) !== i);
  if (unknown) throw bad(text, `output label ${unknown} is not in the inputs, or is there twice`);
  return { terms, output, sizes };
}

/** A value and what its axes are called. */
interface Term {
  readonly value: Value;
  readonly labels: Labels;
}

/** A label that stands on two axes of one term keeps their diagonal. */
function diagonal(build: Builder, { value, labels }: Term): Term {
  const twice = labels.findIndex((l, i) => labels.indexOf(l) !== i);
  if (twice < 0) return { value, labels };
  const first = labels.indexOf(labels[twice]);
  const others = labels.map((_, i) => i).filter((i) => i !== first && i !== twice);
  const { shape } = value.type;
  const n = Math.max(shape[first], shape[twice]);
  if (shape[first] !== shape[twice])
    throw bad(labels.join(""), `label ${labels[twice]} stands on axes of ${shape[first]} and ${shape[twice]}`);
  const last = build.transpose(value, [...others, first, twice]);
  const flat = build.reshape(last, [...others.map((i) => shape[i]), n * n]);
  const picked = build.op("Gather", [flat, build.ints(...Array.from({ length: n }, (_, i) => i * (n + 1)))], { axis: others.length });
  return diagonal(build, { value: picked, labels: [...others.map((i) => labels[i]), labels[first]] });
}

/** Sums the axes whose labels nobody else needs. */
function summed(build: Builder, { value, labels }: Term, needed: ReadonlySet<string>): Term {
  const gone = labels.flatMap((l, i) => (needed.has(l) ? [] : [i]));
  if (gone.length === 0) return { value, labels };
  return { value: build.op("ReduceSum", [value, build.ints(...gone)], { keepdims: 0 }), labels: labels.filter((l) => needed.has(l)) };
}

/** Axes in the order of `wanted`; labels that are missing become axes of size 1. */
function arranged(build: Builder, { value, labels }: Term, wanted: Labels): Value {
  const present = wanted.filter((l) => labels.includes(l));
  const perm = present.map((l) => labels.indexOf(l));
  const turned = perm.every((p, i) => p === i) ? value : build.transpose(value, perm);
  const { shape } = turned.type;
  if (present.length === wanted.length) return turned;
  return build.reshape(
    turned,
    wanted.map((l) => (present.includes(l) ? shape[present.indexOf(l)] : 1)),
  );
}

/** The product of two terms, summed over the labels that only they have: a batched matrix product. */
function product(build: Builder, a: Term, b: Term, needed: ReadonlySet<string>, sizes: ReadonlyMap<string, number>): Term {
  const shared = a.labels.filter((l) => b.labels.includes(l));
  const contracted = shared.filter((l) => !needed.has(l));
  const batch = shared.filter((l) => needed.has(l));
  const rows = a.labels.filter((l) => !shared.includes(l));
  const columns = b.labels.filter((l) => !shared.includes(l));
  const labels = [...batch, ...rows, ...columns];
  if (contracted.length === 0) {
    const [left, right] = [a, b].map((t) => arranged(build, t, labels));
    return { value: build.op("Mul", [left, right]), labels };
  }
  const count = (list: Labels) => elementCount(list.map((l) => sizes.get(l)!)); // every label has a size
  const full = (t: Term, list: Labels): Value => {
    const value = arranged(build, t, list);
    const shape = list.map((l) => sizes.get(l)!);
    return value.type.shape.join() === shape.join() ? value : build.op("Expand", [value, build.ints(...shape)]);
  };
  const left = build.reshape(full(a, [...batch, ...rows, ...contracted]), [count(batch), count(rows), count(contracted)]);
  const right = build.reshape(full(b, [...batch, ...contracted, ...columns]), [count(batch), count(contracted), count(columns)]);
  const value = build.reshape(
    build.op(MatMul, [left, right]),
    labels.map((l) => sizes.get(l)!),
  );
  return { value, labels };
}

export const Einsum: Op = defineOp<{ equation: string }>({
  name: "Einsum",
  kind: "contract",
  attrs: { equation: { type: "string" } },
  infer(inputs, { equation }) {
    const types = inputs.map((_, i) => inputType("Einsum", inputs, i, MATMUL_TYPES));
    if (types.length === 0) throw bad(equation, "there are no inputs");
    const { output, sizes } = parse(equation, types);
    return [{ dtype: sameDType("Einsum", types), shape: output.map((l) => sizes.get(l)!) }];
  },
  expand(inputs, { equation }, node) {
    const build = builder(node.from);
    const values = inputs.map((v) => v!); // checked by infer
    const { terms, output, sizes } = parse(
      equation,
      values.map((v) => v.type),
    );
    const whole = values.map((value, i) => diagonal(build, { value, labels: terms[i] }));
    const neededAfter = (i: number) => new Set([...output, ...whole.slice(i + 1).flatMap((t) => t.labels)]);
    const reduced = whole.map((t, i) =>
      summed(build, t, new Set([...output, ...whole.filter((_, k) => k !== i).flatMap((o) => o.labels)])),
    );
    const result = reduced.reduce((a, b, i) => summed(build, product(build, a, b, neededAfter(i), sizes), neededAfter(i)));
    const arrangedResult = arranged(build, result, output);
    const shape = node.outputs[0].type.shape;
    return [
      arrangedResult.type.shape.join() === shape.join() ? arrangedResult : build.op("Expand", [arrangedResult, build.ints(...shape)]),
    ];
  },
  flops(node) {
    const { sizes } = parse(
      node.attrs.equation,
      node.inputs.map((v) => v!.type),
    );
    return 2 * elementCount([...sizes.values()]);
  },
  samples: [
    { inputs: [f32(3, 5), f32(5, 4)], attrs: { equation: "ij,jk->ik" } },
    { inputs: [f32(2, 3, 5), f32(2, 4, 5)], attrs: { equation: "bid, bjd -> bij" } },
    { inputs: [f32(2, 1, 3, 4), f32(5, 4, 3)], attrs: { equation: "...ij,...jk->...ik" } },
    { inputs: [f32(4, 4)], attrs: { equation: "ii" } },
    { inputs: [f32(2, 3, 3)], attrs: { equation: "...ii->...i" } },
    { inputs: [f32(3), f32(4), f32(3, 4)], attrs: { equation: "i,j,ij->ji" } },
    { inputs: [f32(3, 4)], attrs: { equation: "ab->b" } },
  ],
});

export const einsumOps: readonly Op[] = [Einsum];
