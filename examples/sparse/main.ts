// Prunes a random matrix, stores it in blocks, multiplies in both directions from the one copy, and writes it as safetensors and Matrix Market.
import { writeFileSync } from "node:fs";
import {
  packSparse,
  spmm,
  spmmTransposed,
  statisticsOf,
  type TensorData,
  toBitmap,
  toCsb,
  toNibble,
  writeMatrixMarket,
  writeSafetensors,
} from "heddle/sparse";

const [rows, columns] = [512, 384];
const weights = Float32Array.from({ length: rows * columns }, (_, i) => (Math.sin(i * 12.9898) * 43758.5453) % 1);
const pruned = weights.map((w) => (Math.abs(w) < 0.9 ? 0 : w));
const dense: TensorData = { dtype: "f32", shape: [rows, columns], data: pruned };

for (const w of [toCsb(dense, { block: 128 }), toBitmap(dense), toNibble(dense)]) {
  const { nonzeros, density, bytesPerElement, rowNonzeros, imbalance } = statisticsOf(w);
  console.log(`${w.kind}: ${nonzeros} nonzeros (${(100 * density).toFixed(1)} %), ${bytesPerElement.toFixed(3)} bytes an element,`);
  console.log(`  ${rowNonzeros.min} to ${rowNonzeros.max} in a row, on two threads ${imbalance.equalNonzeros.toFixed(3)} of an even share`);
}

const w = toCsb(dense);
const x = new Float32Array(columns).fill(1);
const g = new Float32Array(rows).fill(1);
const sum = (a: Float64Array) => a.reduce((s, v) => s + v, 0);
console.log(`⟨W·1, 1⟩ = ${sum(spmm(w, x, 1)).toFixed(6)}, ⟨1, Wᵀ·1⟩ = ${sum(spmmTransposed(w, g, 1)).toFixed(6)}`);

const { tensors, metadata } = packSparse({ "fc.weight": w });
const folder = process.argv[2];
if (folder) {
  writeFileSync(`${folder}/pruned.safetensors`, writeSafetensors(tensors, metadata));
  writeFileSync(`${folder}/pruned.mtx`, writeMatrixMarket(w));
}
console.log(Object.entries(tensors).map(([name, { dtype, shape }]) => `${name} ${dtype}[${shape}]`).join(", ")); // biome-ignore format: one line
