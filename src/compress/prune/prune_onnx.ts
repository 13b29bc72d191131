// A trained network → the same network with most weights zero: chosen, refitted layer by layer, and taught by the dense one.

import { mapInTurns } from "../../devices/turns.ts";
import type { OnnxModel } from "../../formats/onnx/read.ts";
import { resolveShapes } from "../../formats/onnx/shapes.ts";
import { HeddleError } from "../../ir/error.ts";
import { elementCount, type TensorData, toNumbers } from "../../ir/tensor.ts";
import { OnnxModule } from "../../nn/index.ts";
import { evaluate, fromData, type Parameter } from "../../tensor/index.ts";
import { allocateKept } from "./allocate.ts";
import { type Batch, fedProducts, groupPart, inputProducts, inputSquares, type Sums, shapesOf } from "./calibrate.ts";
import { bestOfRandom } from "./candidates.ts";
import { disagreement } from "./disagreement.ts";
import { type DistillOptions, distill } from "./distill.ts";
import { type Grain, isPattern } from "./grains.ts";
import { type Layer, type LayerUse, layersOf, layerUses, matrixOf, sizeOf, weightFrom } from "./layer.ts";
import { fitOnMask, outputError } from "./least_squares.ts";
import { countKept, keepLargest, type Mask, type Scope, selectMasks } from "./mask.ts";
import { Masks } from "./masked.ts";
import { magnitudes, wandaScores } from "./scores.ts";
import { sparseGpt } from "./sparse_gpt.ts";

export const METHODS = ["magnitude", "wanda", "sparsegpt", "random"] as const;
export type Method = (typeof METHODS)[number];

export interface PruneOptions {
  /** The part of the layers' weights that goes. A grain N:M says it itself. */
  readonly sparsity: number;
  readonly method?: Method;
  readonly grain?: Grain;
  /** Default: layer; of Wanda with single weights: row, as its authors found best. */
  readonly scope?: Scope;
  /** Inputs that the network meets; all methods but magnitude need some. */
  readonly batches?: readonly Batch[];
  /** Where there are no inputs: shapes by input name, if the file leaves them open. */
  readonly shapes?: Readonly<Record<string, readonly number[]>>;
  /** Given: zeros go where they save most time for what they lose, layers against each other. Single weights in scope global only, and not for random candidates. */
  readonly cost?: LayerCost;
  /** Which layers stay dense, by the name of the weight. Default: none. */
  readonly exclude?: (name: string) => boolean;
  /** Refits each layer's weights to the dense layer's outputs. Default: where there are inputs. */
  readonly fit?: boolean;
  /** Whether the layers' errors are measured, which takes as long as calibrating three times. Default: where there are inputs. */
  readonly errors?: boolean;
  /** Then the whole network learns from the dense one. Default: it does not. */
  readonly distill?: Omit<DistillOptions, "batches"> & Partial<Pick<DistillOptions, "batches">>;
  /** Of method random. Default 50. */
  readonly candidates?: number;
  readonly seed?: number;
  readonly progress?: (text: string) => void;
}

/** What a layer's time depends on. */
export interface LayerSize {
  readonly rows: number;
  readonly columns: number;
  /** Pixels, or rows of a batch. */
  readonly positions: number;
  readonly groups: number;
  /** Of a convolution; of products empty. */
  readonly kernel: readonly number[];
  readonly strides: readonly number[];
}
/** Milliseconds of a layer with so many of its weights, among all that are pruned of its network. */
export type LayerCost = (layer: LayerSize, density: number, network: readonly LayerSize[]) => number;

export interface LayerReport {
  readonly name: string;
  readonly operator: string;
  readonly shape: readonly number[];
  readonly weights: number;
  /** The part that stays. */
  readonly density: number;
  /** ‖output − dense output‖² / ‖dense output‖² of this layer, each in its network; null where it was not measured. */
  readonly error: number | null;
}

export interface PruneResult {
  /** All weights by name, also those that only distillation changed. */
  readonly weights: ReadonlyMap<string, TensorData>;
  readonly layers: readonly LayerReport[];
  /** The part that stays: of the layers' weights, and of all weights of the network. */
  readonly density: number;
  readonly networkDensity: number;
  /** Of each step of distillation. */
  readonly losses: readonly number[];
}

/** What a layer is and has. */
interface State {
  readonly layer: Layer;
  readonly dense: Float64Array;
  readonly mask: Mask;
  readonly matrix: Float64Array;
}

/** Throws HeddleError: "bad-argument", "bad-model", "unsupported", "dynamic". */
export async function pruneOnnx(model: OnnxModel, options: PruneOptions): Promise<PruneResult> {
  const { method = "magnitude", batches = [], fit = batches.length > 0, progress = () => {} } = options;
  if (batches.length === 0 && (method !== "magnitude" || fit || options.distill))
    throw new HeddleError("bad-argument", `prune: ${method}, fitting and distillation need inputs of the network`);
  const [dense, pruned] = [new OnnxModule(model), new OnnxModule(model)];
  const shapes = batches.length > 0 ? shapesOf(batches[0]) : Object.fromEntries(resolveShapes(model, options.shapes ?? {}));
  const parameters = new Map(dense.namedParameters());
  const uses = layerUses(dense.graph(shapes), new Set(parameters.keys()));
  const layers = layersOf(uses).filter(({ name }) => !options.exclude?.(name));
  if (layers.length === 0) throw new HeddleError("bad-argument", "prune: the network has no weights of convolutions or products to prune");
  const matrices = await Promise.all(layers.map(async (layer) => matrixOf(layer, await parameters.get(layer.name)!.value.tensorData()))); // layers are among them
  if (batches.length > 0) progress(`calibrating ${layers.length} layers on ${batches.length} batches`);
  const products = batches.length > 0 && (method === "sparsegpt" || fit) ? await inputProducts(dense, layers, batches) : null;
  let states = await choose({ layers, uses, matrices, dense, pruned, products, method }, options);
  await assign(pruned, states);
  if (fit) states = await fitInOrder(dense, pruned, states, batches, progress);
  const losses = options.distill ? await teach(dense, pruned, states, { batches, ...options.distill }) : [];
  const weights = await weightsOf(pruned);
  states = states.map((s) => ({ ...s, matrix: matrixOf(s.layer, weights.get(s.layer.name)!) })); // the network's own names
  const errors = batches.length > 0 && options.errors !== false ? await errorsOf(dense, pruned, states, products, batches) : null;
  return report(states, weights, errors, losses);
}

interface Setting {
  readonly layers: readonly Layer[];
  readonly uses: readonly LayerUse[];
  readonly matrices: readonly Float64Array[];
  readonly dense: OnnxModule;
  readonly pruned: OnnxModule;
  readonly products: Sums | null;
  readonly method: Method;
}

async function choose(setting: Setting, options: PruneOptions): Promise<State[]> {
  const { layers, matrices, method, products } = setting;
  const { sparsity, grain = "element", batches = [], progress = () => {} } = options;
  const scope = options.scope ?? (options.cost ? "global" : method === "wanda" && grain === "element" ? "row" : "layer");
  if (options.cost && (scope !== "global" || grain !== "element" || method === "random"))
    throw new HeddleError("bad-argument", "prune: by time only single weights are chosen, in scope global, by a method with scores");
  if (method === "sparsegpt" && scope === "layer" && (grain === "element" || isPattern(grain))) {
    const drop = isPattern(grain) ? grain : { sparsity };
    return await mapInTurns(layers, (layer, i) => {
      progress(`SparseGPT ${i + 1}/${layers.length} ${layer.name}`);
      return {
        layer,
        dense: matrices[i],
        ...byGroups(layer, matrices[i], (part, group) =>
          sparseGpt(part, groupPart(products!.get(layer.name)!, layer, group), layer.columns, { drop }),
        ),
      }; // made for this method
    });
  }
  const masks = await masksOf(setting, { ...options, batches, grain, scope });
  return await mapInTurns(layers, (layer, i) => {
    const masked = { layer, dense: matrices[i], mask: masks[i], matrix: matrices[i].map((w, j) => (masks[i][j] ? w : 0)) };
    if (method !== "sparsegpt") return masked;
    const rows = sizeOf(layer) / layer.groups;
    const updated = byGroups(layer, matrices[i], (part, group) =>
      sparseGpt(part, groupPart(products!.get(layer.name)!, layer, group), layer.columns, {
        drop: { mask: masks[i].subarray(group * rows, (group + 1) * rows) },
      }),
    );
    return { ...masked, ...updated };
  });
}

/** Rows of one group of a convolution weigh the same inputs: `f` gets their part of the matrix. */
function byGroups(
  layer: Layer,
  matrix: Float64Array,
  f: (part: Float64Array, group: number) => { matrix: Float64Array; mask: Mask },
): { matrix: Float64Array; mask: Mask } {
  const size = sizeOf(layer) / layer.groups;
  const out = { matrix: new Float64Array(sizeOf(layer)), mask: new Uint8Array(sizeOf(layer)) };
  for (let group = 0; group < layer.groups; group++) {
    const part = f(matrix.subarray(group * size, (group + 1) * size), group);
    out.matrix.set(part.matrix, group * size);
    out.mask.set(part.mask, group * size);
  }
  return out;
}

async function masksOf(
  { layers, uses, matrices, dense, pruned, products, method }: Setting,
  options: PruneOptions & { readonly grain: Grain; readonly scope: Scope; readonly batches: readonly Batch[] },
): Promise<readonly Mask[]> {
  const { batches, progress = () => {} } = options;
  if (method === "random") {
    const wrong = await disagreement(dense, pruned, batches);
    try {
      const chosen = await bestOfRandom(layers, {
        ...options,
        misclassification: async (masks) => {
          await assign(
            pruned,
            layers.map((layer, i) => ({ layer, matrix: matrices[i].map((w, j) => (masks[i][j] ? w : 0)) })),
          );
          const error = await wrong.rate();
          progress(`candidate: ${(error * 100).toFixed(1)} % of outputs differ`);
          return error;
        },
      });
      return chosen.masks;
    } finally {
      wrong.dispose();
    }
  }
  const squares = method === "magnitude" ? null : products ? diagonals(layers, products) : await inputSquares(dense, layers, batches);
  const scored = layers.map((layer, i) => {
    if (!squares) return { layer, scores: magnitudes(matrices[i]) };
    const scores = wandaScores(matrices[i], layer.columns, squares.get(layer.name)!); // calibrated for all
    return { layer, scores: options.scope === "global" ? shares(scores) : scores };
  });
  const { cost } = options;
  if (!cost) return selectMasks(scored, options);
  const sizes = layers.map((layer) => sizeIn(uses, layer));
  const allotted = scored.map(({ scores }, i) => ({
    losses: shares(scores).map((s) => s * s),
    milliseconds: (density: number) => cost(sizes[i], density, sizes),
  }));
  const kept = allocateKept(allotted, options.sparsity);
  return scored.map(({ scores }, i) => keepLargest(scores, kept[i]));
}

/** A layer in the network, with all of its uses. */
function sizeIn(uses: readonly LayerUse[], { name, operator, shape, rows, columns, groups }: Layer): LayerSize {
  const own = uses.filter(({ layer }) => layer.name === name);
  const positions = own.reduce((n, { node }) => n + elementCount(node.outputs[0].type.shape) / rows, 0);
  const strides = own[0].node.attrs.strides as readonly number[] | undefined; // of convolutions, checked by their operator
  return { rows, columns, positions, groups, kernel: operator === "Conv" ? shape.slice(2) : [], strides: strides ?? [] };
}

/** Scores in parts of the layer's, since inputs of different layers have different lengths: what a weight adds to the layer's relative error. */
function shares(scores: Float64Array): Float64Array {
  const length = Math.sqrt(scores.reduce((sum, s) => sum + s * s, 0));
  return length > 0 ? scores.map((s) => s / length) : scores;
}

const diagonals = (layers: readonly Layer[], products: Sums): Sums =>
  new Map(
    layers.map(({ name, columns, groups }) => {
      const all = products.get(name)!; // calibrated for the same layers
      return [name, Float64Array.from({ length: groups * columns }, (_, i) => all[i * columns + (i % columns)])];
    }),
  );

/** Gives a network these matrices as its weights. */
async function assign(network: OnnxModule, states: readonly Pick<State, "layer" | "matrix">[]): Promise<void> {
  const parameters = new Map(network.namedState());
  for (const { layer, matrix } of states) {
    const parameter = parameters.get(layer.name)!; // layers are named by their weights
    parameter.value = fromData(weightFrom(layer, matrix, parameter.dtype));
  }
}

/** Each is fitted to what the layers before it give after they were fitted: to anything else it does more harm than good. */
async function fitInOrder(
  dense: OnnxModule,
  pruned: OnnxModule,
  states: readonly State[],
  batches: readonly Batch[],
  progress: (text: string) => void,
): Promise<State[]> {
  const fitted: State[] = [];
  for (const [i, state] of states.entries()) {
    const { layer, mask } = state;
    progress(`fitting ${i + 1}/${states.length} ${layer.name}`);
    const { grams, crosses } = await fedProducts(dense, pruned, [layer], batches);
    const size = sizeOf(layer) / layer.groups;
    const { matrix } = byGroups(layer, state.dense, (part, group) => {
      const own = (all: Float64Array | Mask) => all.subarray(group * size, (group + 1) * size);
      const moments = { gram: groupPart(grams.get(layer.name)!, layer, group), cross: groupPart(crosses.get(layer.name)!, layer, group) }; // of this layer
      return {
        matrix: fitOnMask(part, own(state.matrix) as Float64Array, own(mask) as Mask, layer.columns, moments),
        mask: own(mask) as Mask,
      };
    });
    fitted.push({ ...state, matrix });
    await assign(pruned, fitted.slice(-1));
  }
  return fitted;
}

async function teach(dense: OnnxModule, pruned: OnnxModule, states: readonly State[], options: DistillOptions): Promise<readonly number[]> {
  const parameters = new Map(pruned.namedParameters());
  const masked = new Map<Parameter, Mask>(
    states.map(({ layer, mask }) => [parameters.get(layer.name)!, Uint8Array.from(toNumbers(weightFrom(layer, mask)))]), // trainable, else it were no layer
  );
  const masks = new Masks([...masked.keys()]);
  masks.set(masked);
  return distill(dense, pruned, masks, options);
}

async function weightsOf(network: OnnxModule): Promise<Map<string, TensorData>> {
  const entries = [...network.namedState()];
  await evaluate(...entries.map(([, { value }]) => value));
  return new Map(await Promise.all(entries.map(async ([name, { value }]) => [name, await value.tensorData()] as const)));
}

/** The mean over groups, by layer. */
async function errorsOf(
  dense: OnnxModule,
  pruned: OnnxModule,
  states: readonly State[],
  known: Sums | null,
  batches: readonly Batch[],
): Promise<number[]> {
  const layers = states.map(({ layer }) => layer);
  const denseGrams = known ?? (await inputProducts(dense, layers, batches));
  const { grams, crosses } = await fedProducts(dense, pruned, layers, batches);
  return await mapInTurns(states, ({ layer, dense: wanted, matrix }) => {
    const size = sizeOf(layer) / layer.groups;
    let error = 0;
    for (let g = 0; g < layer.groups; g++) {
      const [denseGram, gram, cross] = [denseGrams, grams, crosses].map((sums) => groupPart(sums.get(layer.name)!, layer, g)); // sums of these layers
      const own = (all: Float64Array) => all.subarray(g * size, (g + 1) * size);
      error += outputError(own(wanted), own(matrix), layer.columns, denseGram, { gram, cross }) / layer.groups;
    }
    return error;
  });
}

function report(
  states: readonly State[],
  weights: ReadonlyMap<string, TensorData>,
  errors: readonly number[] | null,
  losses: readonly number[],
): PruneResult {
  const layers = states.map(({ layer: { name, operator, shape }, mask }, i) => {
    const density = countKept(mask) / mask.length;
    return { name, operator, shape, weights: mask.length, density, error: errors ? errors[i] : null };
  });
  const kept = states.reduce((n, { mask }) => n + countKept(mask), 0);
  const pruned = layers.reduce((n, layer) => n + layer.weights, 0);
  const total = [...weights.values()].reduce((n, { data }) => n + data.length, 0);
  return { weights, layers, density: kept / pruned, networkDensity: (total - pruned + kept) / total, losses };
}
