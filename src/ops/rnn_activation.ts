// Names of activation functions in recurrent layers → the functions, of numbers and of values of a graph.
import { HeddleError } from "../ir/error.ts";
import type { Builder, Value } from "../ir/graph.ts";

export type Activation = (x: number) => number;
/** The same as operators. */
export type BuiltActivation = (b: Builder, x: Value) => Value;

/** Function of x with parameters alpha and beta, and their defaults. */
interface ActivationRow {
  readonly f: (x: number, alpha: number, beta: number) => number;
  readonly build: (b: Builder, x: Value, alpha: number, beta: number) => Value;
  readonly alpha?: number;
  readonly beta?: number;
}

const scaled = (b: Builder, x: Value, by: number): Value => b.op("Mul", [x, b.constant(x.type.dtype, by)]);
const plus = (b: Builder, x: Value, by: number): Value => b.op("Add", [x, b.constant(x.type.dtype, by)]);
/** An operator with the parameter alpha, or none. */
const named =
  (name: string, hasAlpha = false): ActivationRow["build"] =>
  (b, x, alpha) =>
    b.op(name, [x], hasAlpha ? { alpha } : {});

const TABLE: Readonly<Record<string, ActivationRow>> = {
  relu: { f: (x) => Math.max(0, x), build: named("Relu") },
  tanh: { f: Math.tanh, build: named("Tanh") },
  sigmoid: { f: (x) => 1 / (1 + Math.exp(-x)), build: named("Sigmoid") },
  affine: { f: (x, a, c) => a * x + c, build: (b, x, a, c) => plus(b, scaled(b, x, a), c), alpha: 1, beta: 0 },
  leakyrelu: { f: (x, a) => (x < 0 ? a * x : x), build: named("LeakyRelu", true), alpha: 0.01 },
  thresholdedrelu: { f: (x, a) => (x > a ? x : 0), build: named("ThresholdedRelu", true), alpha: 1 },
  scaledtanh: {
    f: (x, a, c) => a * Math.tanh(c * x),
    build: (b, x, a, c) => scaled(b, b.op("Tanh", [scaled(b, x, c)]), a),
    alpha: 1,
    beta: 1,
  },
  hardsigmoid: {
    f: (x, a, c) => Math.min(1, Math.max(0, a * x + c)),
    build: (b, x, alpha, beta) => b.op("HardSigmoid", [x], { alpha, beta }),
    alpha: 0.2,
    beta: 0.5,
  },
  elu: { f: (x, a) => (x < 0 ? a * Math.expm1(x) : x), build: named("Elu", true), alpha: 1 },
  softsign: { f: (x) => x / (1 + Math.abs(x)), build: named("Softsign") },
  softplus: { f: (x) => Math.max(0, x) + Math.log1p(Math.exp(-Math.abs(x))), build: named("Softplus") },
};

interface ActivationAttrs {
  readonly activations?: readonly string[];
  readonly activation_alpha?: readonly number[];
  readonly activation_beta?: readonly number[];
}

interface Chosen {
  readonly row: ActivationRow;
  readonly alpha: number;
  readonly beta: number;
}

/** The rows of all directions, one direction after the other. Parameters are taken in order by the functions that have them. */
function chosen(op: string, defaults: readonly string[], attrs: ActivationAttrs, directions: number): Chosen[] {
  const given = attrs.activations?.length ? attrs.activations : Array.from({ length: directions }, () => defaults).flat();
  if (given.length !== directions * defaults.length)
    throw new HeddleError("bad-model", `${op}: ${given.length} activations, wanted ${directions * defaults.length}`);
  const alphas = [...(attrs.activation_alpha ?? [])];
  const betas = [...(attrs.activation_beta ?? [])];
  return given.map((name) => {
    const row = Object.hasOwn(TABLE, name.toLowerCase()) ? TABLE[name.toLowerCase()] : undefined;
    if (!row) throw new HeddleError("bad-model", `${op}: activation ${name} is unknown, ${Object.keys(TABLE).join(", ")} are known`);
    const alpha = row.alpha === undefined ? 0 : (alphas.shift() ?? row.alpha);
    const beta = row.beta === undefined ? 0 : (betas.shift() ?? row.beta);
    return { row, alpha, beta };
  });
}

type Choose<T> = (op: string, defaults: readonly string[], attrs: ActivationAttrs, directions: number) => T[];

export const activationsOf: Choose<Activation> = (...args) =>
  chosen(...args).map(
    ({ row, alpha, beta }) =>
      (x) =>
        row.f(x, alpha, beta),
  );
export const builtActivations: Choose<BuiltActivation> = (...args) =>
  chosen(...args).map(
    ({ row, alpha, beta }) =>
      (b, x) =>
        row.build(b, x, alpha, beta),
  );
