// Where a tensor's data lies outside the model file → a refusal: a page has no folder to look into.
import { HeddleError } from "../../ir/error.ts";

export const readExternal: typeof import("./external.ts").readExternal = (entries, _wanted, what) => {
  const location = entries.find((e) => e.key === "location")?.value ?? "";
  const shown = JSON.stringify(location.slice(0, 200));
  throw new HeddleError(
    "missing",
    `${what}: its data is in the file ${shown}, which a browser cannot read; export the model with its weights inside`,
  );
};
