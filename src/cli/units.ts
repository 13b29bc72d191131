// Numbers → short texts with units.

/** Three significant digits, no exponent for what people read. */
export function short(x: number): string {
  if (!Number.isFinite(x)) return String(x);
  const size = Math.abs(x);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-3) return x.toExponential(2);
  return size >= 100 ? x.toFixed(0) : x.toFixed(Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(size)))));
}

const scaled = (x: number, step: number, units: readonly string[]): string => {
  let i = 0;
  let value = x;
  while (value >= step && i < units.length - 1) {
    value /= step;
    i++;
  }
  return `${i === 0 ? value : short(value)}${units[i]}`;
};

export const bytesText = (bytes: number): string => scaled(bytes, 1024, [" B", " KiB", " MiB", " GiB", " TiB"]);
export const countText = (count: number): string => scaled(count, 1000, ["", " k", " M", " G", " T"]);
export const msText = (ms: number): string =>
  ms < 0.1 ? `${short(ms * 1000)} µs` : ms < 10_000 ? `${short(ms)} ms` : `${short(ms / 1000)} s`;
export const percentText = (share: number): string => `${(share * 100).toFixed(1)} %`;
export const typeText = (t: { readonly dtype: string; readonly shape: readonly (number | string | null)[] | null }): string =>
  `${t.dtype}[${t.shape ? t.shape.map((d) => d ?? "?").join(",") : "any shape"}]`;
export const threadsText = (threads: number): string => (threads === 1 ? "1 thread" : `${threads} threads`);
