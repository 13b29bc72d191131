// How often two networks name different classes for the same inputs: misclassification where there are no labels.
import { isFloat } from "../../ir/dtype.ts";
import type { OnnxModule } from "../../nn/index.ts";
import { fromData, jit, type Tensor } from "../../tensor/index.ts";
import type { Batch } from "./calibrate.ts";

export interface Disagreement {
  /** From 0 to 1, with the weights that the second network has now. */
  rate(): Promise<number>;
  dispose(): void;
}

/** Classes are along the last axis of each float output. The first network's weights are those of now. */
export async function disagreement(judge: OnnxModule, judged: OnnxModule, batches: readonly Batch[]): Promise<Disagreement> {
  const classes = (network: OnnxModule) =>
    jit((inputs: Record<string, Tensor>) =>
      Object.values(network.forward(inputs)).flatMap((y) => (isFloat(y.dtype) && y.rank > 0 ? [y.argmax(-1).flatten()] : [])),
    );
  const namesOf = async (named: ReturnType<typeof classes>, batch: Batch): Promise<number[]> => {
    const tensors = named(Object.fromEntries(Object.entries(batch).map(([name, data]) => [name, fromData(data)])));
    const all = await Promise.all(tensors.map((t) => t.tensorData()));
    return all.flatMap(({ data }) => Array.from(data as Int32Array)); // argmax gives i32
  };
  const right = classes(judge);
  const wanted: number[][] = [];
  for (const batch of batches) wanted.push(await namesOf(right, batch));
  right.dispose();
  const judgedClasses = classes(judged);
  return {
    async rate() {
      let [wrong, total] = [0, 0];
      for (const [i, batch] of batches.entries()) {
        const got = await namesOf(judgedClasses, batch);
        for (const [k, name] of got.entries()) wrong += Number(name !== wanted[i][k]);
        total += got.length;
      }
      return total ? wrong / total : 0;
    },
    dispose: () => judgedClasses.dispose(),
  };
}
