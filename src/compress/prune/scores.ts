// Weights → how much each matters: by its size, or by its size times that of what it is multiplied by (Wanda, Sun et al. 2024).

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
