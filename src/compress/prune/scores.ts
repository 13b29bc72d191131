// Weights → how much each matters: by its size, or by its size times that of what it is multiplied by (Wanda, Sun et al. 2024); and what makes layers comparable (LAMP, Lee et al. 2021).

/** |w| of a matrix. */
export const magnitudes = (matrix: Float64Array): Float64Array => matrix.map(Math.abs);

/**
 * |w| · ‖x‖, where ‖x‖ is the length of the input that the column weighs, over all calibration inputs. matrix (rows, columns);
 * squares (groups, columns): the squared lengths; each group of rows weighs inputs of its own.
 */
export function wandaScores(matrix: Float64Array, columns: number, squares: Float64Array): Float64Array {
  const rowsOfGroup = matrix.length / squares.length;
  const lengths = squares.map(Math.sqrt);
  return matrix.map((w, i) => Math.abs(w) * lengths[Math.floor(i / columns / rowsOfGroup) * columns + (i % columns)]);
}

/** Each in parts of itself and all that are larger: what goes next is what the rest of its layer misses least, and the largest of each layer goes last. squares: of scores, of one layer. */
export function lampScores(squares: Float64Array): Float64Array {
  const out = new Float64Array(squares.length);
  let sum = 0;
  for (const i of Uint32Array.from(squares.keys()).sort((a, b) => squares[b] - squares[a])) {
    sum += squares[i];
    out[i] = sum > 0 ? squares[i] / sum : 0;
  }
  return out;
}
