// x · (1 + erf(x / √2)) / 2, and its form with tanh, become Gelu.
import { apply, type Pass, type Value } from "../ir/graph.ts";
import { OPS } from "../ops/index.ts";
import { isClose, madeBy, numberOf, pairs, plusNumber, rulePass } from "./match.ts";
import { gateRule, multipleOf, productOf } from "./product.ts";

const TANH_SCALE = Math.sqrt(2 / Math.PI);
const TANH_CUBE = 0.044715;

/** x³, as a power or as products. */
function isCube(value: Value, x: Value): boolean {
  const pow = madeBy(value, "Pow");
  if (pow) return pow.inputs[0] === x && numberOf(pow.inputs[1]) === 3;
  return isProductOf(value, x, (rest) => isSquare(rest, x));
}

function isSquare(value: Value, x: Value): boolean {
  const pow = madeBy(value, "Pow");
  if (pow) return pow.inputs[0] === x && numberOf(pow.inputs[1]) === 2;
  return isProductOf(value, x, (rest) => rest === x);
}

function isProductOf(value: Value, x: Value, isRest: (rest: Value) => boolean): boolean {
  const mul = madeBy(value, "Mul");
  return mul !== undefined && pairs(mul).some(([a, b]) => a === x && isRest(b));
}

/** The number times a value that `is` accepts, or undefined. */
function scaled(value: Value, is: (v: Value) => boolean): number | undefined {
  if (is(value)) return 1;
  const mul = madeBy(value, "Mul");
  if (!mul) return undefined;
  for (const [v, c] of pairs(mul)) {
    const number = numberOf(c);
    if (number !== undefined && is(v)) return number;
  }
  return undefined;
}

/** √(2/π) · (x + 0.044715 x³), also with x taken out. */
function isTanhArgument(value: Value, x: Value): boolean {
  const { number, factors } = productOf(value);
  if (!isClose(number, TANH_SCALE)) return false;
  const isCubicSum = (v: Value) => {
    const sum = madeBy(v, "Add");
    return sum !== undefined && pairs(sum).some(([a, b]) => a === x && isClose(scaled(b, (c) => isCube(c, x)), TANH_CUBE)); // biome-ignore format: short
  };
  const isSquareSum = (v: Value) => {
    const sum = plusNumber(v, "Add");
    return sum?.number === 1 && isClose(scaled(sum.x, (c) => isSquare(c, x)), TANH_CUBE); // biome-ignore format: short
  };
  if (factors.length === 1) return isCubicSum(factors[0]);
  const [a, b] = factors;
  return factors.length === 2 && ((a === x && isSquareSum(b)) || (b === x && isSquareSum(a)));
}

export const gelu: Pass = rulePass(
  "gelu",
  gateRule((x, gate, number, node) => {
    const sum = plusNumber(gate, "Add");
    if (!sum || !isClose(sum.number, 1) || !isClose(number, 0.5)) return null;
    const erf = madeBy(sum.x, "Erf");
    if (erf && isClose(multipleOf(erf.inputs[0]!, x), Math.SQRT1_2)) return apply(OPS.get("Gelu")!, [x], {}, node.from)[0];
    const tanh = madeBy(sum.x, "Tanh");
    if (tanh && isTanhArgument(tanh.inputs[0]!, x)) return apply(OPS.get("Gelu")!, [x], { approximate: "tanh" }, node.from)[0];
    return null;
  }),
);
