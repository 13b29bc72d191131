// --mean, --std, --layout, --bgr → how pictures become input tensors.
import { type Options, UsageError } from "./command.ts";
import { choiceOption, flagOption, listOption } from "./options.ts";
import type { PictureOptions } from "./picture.ts";

export const pictureOptions = (options: Options): PictureOptions => ({
  mean: numbers(options, "mean", 0),
  std: numbers(options, "std", 1),
  layout: choiceOption(options, "layout", ["nchw", "nhwc"]),
  isBgr: flagOption(options, "bgr"),
});

function numbers(options: Options, name: string, usual: number): number[] {
  const texts = listOption(options, name);
  const values = texts.map(Number);
  const isWrong =
    values.some((v) => !Number.isFinite(v) || (name === "std" && v === 0)) ||
    (values.length !== 0 && values.length !== 1 && values.length !== 3);
  if (isWrong) throw new UsageError(`--${name}: got ${texts.join(",")}, wanted one number, or three separated by commas`);
  return values.length > 0 ? values : [usual];
}
