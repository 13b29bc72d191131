// Matrix fragments in WGSL: none in browsers.
import { invariant } from "../../ir/error.ts";

type Fragments = typeof import("./fragments.ts");

export const FRAGMENT_DIRECTIVES: Fragments["FRAGMENT_DIRECTIVES"] = [];
export const FRAGMENT_FEATURES: Fragments["FRAGMENT_FEATURES"] = [];
export const fragmentTypes: Fragments["fragmentTypes"] = () => [];
export const homeOf: Fragments["homeOf"] = (_, array) => array;
export const copyText: Fragments["copyText"] = () => {
  invariant(false, "copies in a browser");
};
export const fragmentText: Fragments["fragmentText"] = () => {
  invariant(false, "fragments in a browser");
};
