// Times of many runs → median and spread.

export interface Spread {
  readonly median: number;
  readonly p10: number;
  readonly p90: number;
}

/** Value below which the share `q` of the sorted values lies, interpolated. */
function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q;
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (sorted[high] - sorted[low]) * (at - low);
}

export function spreadOf(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  return { median: quantile(sorted, 0.5), p10: quantile(sorted, 0.1), p90: quantile(sorted, 0.9) };
}

export const median = (values: readonly number[]): number => spreadOf(values).median;
export const geometricMean = (values: readonly number[]): number =>
  Math.exp(values.reduce((sum, x) => sum + Math.log(x), 0) / values.length);

/** Microseconds are enough; more digits only look precise. */
export const rounded = (x: number): number => Number(x.toPrecision(5));
export const roundedSpread = ({ median, p10, p90 }: Spread): Spread => ({ median: rounded(median), p10: rounded(p10), p90: rounded(p90) });
