// Two tensors → the first place where they differ by more than ONNX's own runner allows.
import { type TensorData, toNumbers } from "../../src/ir/tensor.ts";

/** The tolerances of ONNX's own runner (onnx/backend/test/case/test_case.py). */
const RTOL = 1e-3;
const ATOL = 1e-7;
/** The recorded bfloat16 numbers were cut off, not rounded: one unit in the last place. */
const RTOL_BF16 = 2 ** -7;

/** numpy.testing.assert_allclose(wanted, got), with dtype and shape: undefined when they agree, else the first place where they do not. */
export function compare(got: TensorData | undefined, wanted: TensorData): string | undefined {
  if (!got) return "missing";
  const [gotType, wantedType] = [got, wanted].map(({ dtype, shape }) => `${dtype}[${shape}]`);
  if (gotType !== wantedType) return `got ${gotType}, wanted ${wantedType}`;
  const a = toNumbers(got);
  const b = toNumbers(wanted);
  const rtol = wanted.dtype === "bf16" ? RTOL_BF16 : RTOL;
  const isNear = (x: number, y: number) => Number.isFinite(x) && Math.abs(x - y) <= ATOL + rtol * Math.abs(x);
  const isClose = (x: number, y: number) => x === y || isNear(x, y) || Object.is(x, y);
  const bad = a.findIndex((x, i) => !isClose(x, b[i]));
  return bad < 0 ? undefined : `element ${bad} of ${a.length} is ${a[bad]}, wanted ${b[bad]}`;
}
