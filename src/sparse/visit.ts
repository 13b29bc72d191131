// What a walk over a sparse matrix calls for each stored element.

/** `slot` is where the element lies in `values`. */
export type Visit = (row: number, column: number, slot: number) => void;
