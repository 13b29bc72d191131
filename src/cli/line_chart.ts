// Series of numbers → a picture of lines over one axis: SVG that takes its colours from the page and needs nothing else.

export interface Series {
  readonly name: string;
  readonly points: readonly (readonly [x: number, y: number])[];
  /** line: joined points; level: dashed, without marks; mark: a single point that stands out. */
  readonly kind: "line" | "level" | "mark";
  /** One of three. Series of one thing share it. */
  readonly color: 0 | 1 | 2;
}

export interface Chart {
  readonly title: string;
  readonly series: readonly Series[];
  readonly xText: (x: number) => string;
  readonly yText: (y: number) => string;
  /** Places that the axes reach at least, for example 0. */
  readonly x?: readonly number[];
  readonly y?: readonly number[];
}

const [WIDTH, HEIGHT] = [720, 300];
const MARGIN = { left: 64, right: 20, top: 58, bottom: 32 };
const FRAME = { right: WIDTH - MARGIN.right, bottom: HEIGHT - MARGIN.bottom };
/** More points than this are a curve: marks would cover it. */
const MANY = 40;
const TICKS = 5;

/** Style of the pictures, for the page: colours of three series that can be told apart, also where the page is dark. */
export const CHART_STYLE = `svg{--c0:#2563eb;--c1:#c2410c;--c2:#047857;max-width:100%;height:auto;font:12px system-ui,sans-serif}
@media(prefers-color-scheme:dark){svg{--c0:#7aa8ff;--c1:#fb9a5b;--c2:#45c79a}}
svg text{fill:currentColor}svg .scale{opacity:.65}svg .grid{stroke:currentColor;opacity:.13}`;

export const escaped = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

/** Round numbers, about five of them, from below the least to above the largest. */
export function niceTicks(values: readonly number[]): number[] {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const rough = (high - low || Math.abs(high) || 1) / TICKS;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * (1 - 1e-9))!; // 10 · power is
  const first = Math.floor(low / step + 1e-9);
  const last = Math.max(first + 1, Math.ceil(high / step - 1e-9));
  return Array.from({ length: last - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

interface Scale {
  readonly ticks: readonly number[];
  at(value: number): number;
}

function scaleOf(values: readonly number[], from: number, to: number): Scale {
  const ticks = niceTicks(values);
  const [low, high] = [ticks[0], ticks[ticks.length - 1]];
  return { ticks, at: (v) => from + ((to - from) * (v - low)) / (high - low) };
}

export function lineChart({ title, series, xText, yText, x: xs = [], y: ys = [] }: Chart): string {
  const all = series.flatMap(({ points }) => points);
  const x = scaleOf([...xs, ...all.map(([v]) => v)], MARGIN.left, FRAME.right);
  const y = scaleOf([...ys, ...all.map(([, v]) => v)], FRAME.bottom, MARGIN.top);
  const levels = y.ticks.map((v) => {
    const at = y.at(v).toFixed(1);
    return `<path class="grid" d="M${MARGIN.left} ${at}H${FRAME.right}"/><text class="scale" x="${MARGIN.left - 10}" y="${at}" dy=".33em" text-anchor="end">${escaped(yText(v))}</text>`;
  });
  const places = x.ticks.map(
    (v) => `<text class="scale" x="${x.at(v).toFixed(1)}" y="${FRAME.bottom + 20}" text-anchor="middle">${escaped(xText(v))}</text>`,
  );
  const drawn = series.map(({ kind, name, points, color: number }) => {
    const color = `var(--c${number})`;
    const at = points.map(([a, b]) => `${x.at(a).toFixed(1)},${y.at(b).toFixed(1)}`);
    const marks = kind === "level" || points.length > MANY ? [] : points;
    const said = ([a, b]: Series["points"][number]): string => `<title>${escaped(`${name}: ${yText(b)} at ${xText(a)}`)}</title>`;
    const dots = marks.map((point, k) => {
      const [cx, cy] = at[k].split(",");
      return kind === "mark"
        ? `<rect x="-6" y="-6" width="12" height="12" transform="translate(${cx} ${cy}) rotate(45)" fill="${color}" stroke="Canvas" stroke-width="2">${said(point)}</rect>`
        : `<circle cx="${cx}" cy="${cy}" r="4" fill="${color}" stroke="Canvas" stroke-width="1.5">${said(point)}</circle>`;
    });
    const dashes = kind === "level" ? ' stroke-dasharray="6 5"' : "";
    const line = kind === "mark" ? "" : `<polyline points="${at.join(" ")}" fill="none" stroke="${color}" stroke-width="2"${dashes}/>`;
    return `${line}${dots.join("")}`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" width="${WIDTH}" role="img" aria-label="${escaped(title)}">
<text x="0" y="18" font-size="15" font-weight="bold">${escaped(title)}</text>
${legend(series)}
${[...levels, ...places, ...drawn].join("\n")}</svg>`;
}

/** In a row; widths are guessed, as there is nothing to measure them with. */
function legend(series: readonly Series[]): string {
  const parts: string[] = [];
  let x = MARGIN.left;
  for (const { name, kind, color } of series) {
    const sign = kind === "mark" ? "◆" : kind === "level" ? "┅" : "●";
    parts.push(`<text x="${x}" y="40"><tspan style="fill:var(--c${color})">${sign}</tspan> ${escaped(name)}</text>`);
    x += 7 * name.length + 40;
  }
  return parts.join("");
}
