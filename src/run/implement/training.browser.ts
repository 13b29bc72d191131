// Kernels of operators that only training has: none, since pages run networks and do not train them.
type Training = typeof import("./training.ts");

export const TRAINING_ANCHORS: Training["TRAINING_ANCHORS"] = [];
export const TRAINING_ALONE: Training["TRAINING_ALONE"] = [];
export const canAnchor: Training["canAnchor"] = () => true;
