// One error class for everything heddle refuses: a code for programs, one clear line for people.

export type ErrorCode =
  | "bad-model" // the file is not valid ONNX, is truncated, or contradicts itself
  | "bad-input" // a tensor given to run() has the wrong name, type or shape
  | "bad-argument" // an option or command-line argument is wrong
  | "unsupported" // valid, but heddle cannot do it (names operator, opset and node)
  | "dynamic" // sizes inside the network depend on values that are known only at run time
  | "missing" // a file, package or device is not there
  | "limit" // a size would pass a limit (memory, dimensions)
  | "verify" // an internal check failed: a bug in heddle, reported with where
  | "io";

/** Thrown at heddle's borders. `message` is one line: operator, got, wanted, origin, way round. */
export class HeddleError extends Error {
  readonly code: ErrorCode;
  constructor(code: ErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "HeddleError";
    this.code = code;
  }
}

/** Throws what only a bug in heddle could break. */
export function invariant(condition: unknown, message = "the stack says where"): asserts condition {
  if (!condition) throw new HeddleError("verify", `internal: ${message}`);
}
