// The whole reading with networks made of plain functions: what goes into each, in which order, and what comes of it.
import { describe, expect, test } from "vitest";
import type { FloatTensor, Nets } from "../../examples/ocr/net.ts";
import { readText } from "../../examples/ocr/read_text.ts";
import type { Image } from "../../src/formats/image.ts";

const plain = (width: number, height: number): Image => ({ width, height, data: new Uint8Array(width * height * 3).fill(200) });

interface Fake {
  /** Bars of text as left, top, right, bottom in pixels of the detection map. */
  readonly bars: readonly (readonly number[])[];
  /** Probability of standing on its head, line after line. */
  readonly heads?: readonly number[];
  /** Class and probability that each line is read as. */
  readonly reads?: readonly (readonly [number, number])[];
}

/** Networks that find `bars`, and a record of the shapes they were given. */
function fakeNets({ bars, heads = [], reads = [] }: Fake): { nets: Nets; shapes: string[] } {
  const shapes: string[] = [];
  let orients = 0;
  let readings = 0;
  const net = (name: string, answer: (x: FloatTensor) => FloatTensor) => ({
    run: async (x: FloatTensor) => {
      shapes.push(`${name} ${x.shape.join("×")}`);
      return answer(x);
    },
  });
  const nets: Nets = {
    detect: net("detect", ({ shape: [, , h, w] }) => {
      const data = new Float32Array(h * w);
      for (const [left, top, right, bottom] of bars) for (let y = top; y <= bottom; y++) data.fill(0.95, y * w + left, y * w + right + 1);
      return { shape: [1, 1, h, w], data };
    }),
    orient: net("orient", () => {
      const p = heads[orients++] ?? 0;
      return { shape: [1, 2], data: Float32Array.of(1 - p, p) };
    }),
    recognize: net("recognize", () => {
      const [index, p] = reads[readings++] ?? [1, 0.99];
      const data = new Float32Array(3);
      data[index] = p;
      return { shape: [1, 1, 3], data };
    }),
    characters: ["a", "b"],
  };
  return { nets, shapes };
}

describe("readText", () => {
  test("runs each network in turn, line by line from the top", async () => {
    const { nets, shapes } = fakeNets({
      bars: [
        [10, 60, 200, 75],
        [10, 20, 200, 35],
      ],
      reads: [
        [1, 0.9],
        [2, 0.8],
      ],
    });
    const lines = await readText(plain(320, 128), nets);
    expect(lines.map(({ text, turned }) => [text, turned])).toEqual([
      ["a", 0],
      ["b", 0],
    ]);
    expect(lines[0].corners[0].y).toBeLessThan(lines[1].corners[0].y);
    expect(lines[1].confidence).toBeCloseTo(0.8);
    expect(shapes[0]).toBe("detect 1×3×128×320");
    expect(shapes.slice(1).map((shape) => shape.split("×")[0])).toEqual(["orient 1", "recognize 1", "orient 1", "recognize 1"]);
    expect(shapes[1]).toBe("orient 1×3×48×192");
  });

  test("scales boxes back to the picture", async () => {
    const { nets } = fakeNets({ bars: [[96, 96, 383, 127]] });
    const [line] = await readText(plain(1920, 1440), nets, { detect: { unclipRatio: 0 } }); // seen by the network as 960×736
    expect(line.corners[0].x).toBeCloseTo(192);
    expect(line.corners[0].y).toBeCloseTo((96 * 1440) / 736, 0);
    expect(line.corners[2].x).toBeCloseTo(766);
  });

  test("tells how each line was turned", async () => {
    const bars = [
      [10, 10, 240, 25],
      [10, 50, 120, 65],
      [150, 90, 165, 200],
      [200, 90, 215, 200],
    ];
    const { nets } = fakeNets({ bars, heads: [0.1, 0.99, 0.1, 0.99] });
    const lines = await readText(plain(256, 224), nets);
    expect(lines.map(({ turned }) => turned)).toEqual([0, 180, 90, 270]);
  });

  test("leaves an unsure turn alone", async () => {
    const { nets } = fakeNets({ bars: [[10, 10, 120, 25]], heads: [0.85] });
    expect((await readText(plain(160, 64), nets))[0].turned).toBe(0);
    const { nets: again } = fakeNets({ bars: [[10, 10, 120, 25]], heads: [0.85] });
    expect((await readText(plain(160, 64), again, { orient: { minTurnScore: 0.8 } }))[0].turned).toBe(180);
  });

  test("leaves out what is blank or unsure", async () => {
    const bars = [0, 1, 2].map((i) => [10, 10 + 40 * i, 120, 25 + 40 * i]);
    const { nets } = fakeNets({
      bars,
      reads: [
        [0, 0.99],
        [1, 0.4],
        [2, 0.9],
      ],
    });
    expect((await readText(plain(160, 160), nets)).map(({ text }) => text)).toEqual(["b"]);
  });

  test.each([
    [1, 1],
    [3, 2000],
    [2000, 3],
    [33, 31],
  ])("takes a picture of %i×%i pixels without text, and one full of it", async (width, height) => {
    expect(await readText(plain(width, height), fakeNets({ bars: [] }).nets)).toEqual([]);
    const lines = await readText(plain(width, height), fakeNets({ bars: [[0, 0, 31, 31]] }).nets);
    expect(lines.length).toBeLessThanOrEqual(1);
  });
});
