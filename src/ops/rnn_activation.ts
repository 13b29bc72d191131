// Names of activation functions in recurrent layers → the functions.
import { HeddleError } from "../ir/error.ts";

export type Activation = (x: number) => number;

/** Function of x with parameters alpha and beta, and their defaults. */
interface ActivationRow {
  readonly f: (x: number, alpha: number, beta: number) => number;
  readonly alpha?: number;
  readonly beta?: number;
}

const TABLE: Readonly<Record<string, ActivationRow>> = {
  relu: { f: (x) => Math.max(0, x) },
  tanh: { f: Math.tanh },
  sigmoid: { f: (x) => 1 / (1 + Math.exp(-x)) },
  affine: { f: (x, a, b) => a * x + b, alpha: 1, beta: 0 },
  leakyrelu: { f: (x, a) => (x < 0 ? a * x : x), alpha: 0.01 },
  thresholdedrelu: { f: (x, a) => (x > a ? x : 0), alpha: 1 },
  scaledtanh: { f: (x, a, b) => a * Math.tanh(b * x), alpha: 1, beta: 1 },
  hardsigmoid: { f: (x, a, b) => Math.min(1, Math.max(0, a * x + b)), alpha: 0.2, beta: 0.5 },
  elu: { f: (x, a) => (x < 0 ? a * Math.expm1(x) : x), alpha: 1 },
  softsign: { f: (x) => x / (1 + Math.abs(x)) },
  softplus: { f: (x) => Math.max(0, x) + Math.log1p(Math.exp(-Math.abs(x))) },
};

interface ActivationAttrs {
  readonly activations?: readonly string[];
  readonly activation_alpha?: readonly number[];
  readonly activation_beta?: readonly number[];
}

/** The functions of all directions, one direction after the other. Parameters are taken in order by the functions that have them. */
export function activationsOf(op: string, defaults: readonly string[], attrs: ActivationAttrs, directions: number): Activation[] {
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
    return (x) => row.f(x, alpha, beta);
  });
}
