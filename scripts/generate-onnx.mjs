// src/formats/onnx/onnx.proto → onnx_pb.ts beside it. Needs protoc (Debian: protobuf-compiler).
import { execFileSync } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const folder = join(root, "src/formats/onnx");
const plugin = join(root, "node_modules/.bin/protoc-gen-es");
execFileSync("protoc", [`--plugin=protoc-gen-es=${plugin}`, "-I", folder, "--es_out", folder, "--es_opt=target=ts", "onnx.proto"], {
  stdio: "inherit",
});
