// Maxima of windows that lie side by side, each with the number of its element in a byte, and the gradient that goes back to those elements; channels last.
import { type Int, type Kernel, KernelBuilder, plus, type SimdTarget, times, type Vec } from "../ir/kernel.ts";
import { type Epilogue, EpilogueCode } from "./epilogue.ts";
import { shareOut } from "./work.ts";

export interface TiledPoolShape {
  readonly batch: number;
  readonly channels: number;
  /** Windows on each axis, and elements of each window. */
  readonly windows: readonly [number, number];
  readonly taps: readonly [number, number];
}

/** Some channels of one window: the element of the pooled picture, and of the whole one for each tap, both counted over all images. */
interface Window {
  readonly pooled: Int;
  pixel(tap: number): Int;
  readonly channel: Int;
  readonly lanes: number;
}

const tapsOf = ({ taps }: TiledPoolShape): number => taps[0] * taps[1];
const pooledElements = ({ batch, windows, channels }: TiledPoolShape): number => batch * windows[0] * windows[1] * channels;

/** Calls `body` for every vector of channels. */
export function overChannels(b: KernelBuilder, channels: number, body: (channel: Int, lanes: number) => void): void {
  const whole = channels - (channels % b.lanes);
  b.loop(0, whole, b.lanes, (channel) => body(channel, b.lanes));
  if (whole < channels) body(whole, channels - whole);
}

/** Calls `give` with what each element of a window gets of the gradient of its maximum. `at`: the element's number in dy and places. */
export function spreadMaxima(
  b: KernelBuilder,
  dy: number,
  places: number,
  { at, lanes, taps }: { readonly at: Int; readonly lanes: number; readonly taps: number },
  give: (tap: number, part: Vec) => void,
): void {
  const given = b.load(dy, times(at, 4), lanes);
  const place = b.load(places, at, lanes, "u8");
  for (let tap = 0; tap < taps; tap++) give(tap, b.op("and", b.op("ieq", place, b.i32(tap)), given));
}

/** Calls `body` for every vector of channels of every window. */
function overWindows(b: KernelBuilder, { batch, channels, windows, taps }: TiledPoolShape, body: (window: Window) => void): void {
  shareOut(b, [batch * windows[0]], ([rows]) => {
    b.loop(rows.from, rows.to, 1, (row) => {
      b.loop(0, windows[1], 1, (column) => {
        const pixel = (tap: number): Int => {
          const line = plus(times(row, taps[0]), Math.floor(tap / taps[1]));
          return plus(times(line, windows[1] * taps[1]), times(column, taps[1]), tap % taps[1]);
        };
        const at = { pooled: plus(times(row, windows[1]), column), pixel };
        overChannels(b, channels, (channel, lanes) => body({ ...at, channel, lanes }));
      });
    });
  });
}

/** Buffers: x (batch, rows, columns, channels), y (batch, windows, channels), places like y in bytes. Rectified: maxima that are not positive have none. */
export function tiledPoolKernel(name: string, shape: TiledPoolShape, isRectified: boolean, target: SimdTarget, threads: number): Kernel {
  const { channels } = shape;
  const b = new KernelBuilder(name, target, threads);
  const elements = pooledElements(shape);
  const x = b.buffer("x", 4 * elements * tapsOf(shape), "read");
  const y = b.buffer("y", 4 * elements, "write");
  const places = b.buffer("places", elements, "write");
  overWindows(b, shape, ({ pooled, pixel, channel, lanes }) => {
    const load = (tap: number): Vec => b.load(x, plus(times(pixel(tap), channels * 4), times(channel, 4)), lanes);
    const largest = b.op("mov", load(0));
    const place = b.op("mov", b.i32(0));
    for (let tap = 1; tap < tapsOf(shape); tap++) {
      const value = load(tap);
      b.op("select", b.i32(tap), place, b.op("lt", largest, value), place);
      b.op("max", value, largest, undefined, largest);
    }
    if (isRectified) b.op("select", place, b.i32(tapsOf(shape)), b.op("lt", b.f32(0), largest), place);
    const at = plus(times(pooled, channels), channel);
    b.store(largest, y, times(at, 4), lanes);
    b.store(place, places, at, lanes, "u8");
  });
  return b.build();
}

/** Buffers: dy (batch, windows, channels), places like dy in bytes, the epilogue's inputs, output (batch, rows, columns, channels). */
export function tiledPoolGradientKernel(
  name: string,
  shape: TiledPoolShape,
  epilogue: Epilogue,
  target: SimdTarget,
  threads: number,
): Kernel {
  const { channels } = shape;
  const b = new KernelBuilder(name, target, threads);
  const dy = b.buffer("dy", 4 * pooledElements(shape), "read");
  const places = b.buffer("places", pooledElements(shape), "read");
  const tail = new EpilogueCode(b, epilogue, channels);
  overWindows(b, shape, ({ pooled, pixel, channel, lanes }) => {
    const window = { at: plus(times(pooled, channels), channel), lanes, taps: tapsOf(shape) };
    spreadMaxima(b, dy, places, window, (tap, part) =>
      tail.storeTile([[part]], { row: pixel(tap), rowStep: 1, column: () => channel, lanesOf: () => lanes }),
    );
  });
  return b.build();
}
