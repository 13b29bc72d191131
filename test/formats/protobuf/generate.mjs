// onnx.proto → onnx_pb.ts beside it. Needs protoc (Debian: protobuf-compiler).
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const folder = fileURLToPath(new URL(".", import.meta.url));
const plugin = join(folder, "../../../node_modules/.bin/protoc-gen-es");
execFileSync("protoc", [`--plugin=protoc-gen-es=${plugin}`, "-I", folder, "--es_out", folder, "--es_opt=target=ts", "onnx.proto"], {
  stdio: "inherit",
});
