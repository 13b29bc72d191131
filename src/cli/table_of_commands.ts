// All commands as data: name, arguments, options with what they do, examples, and where the code is, which loads only when it runs.
import type { Command } from "./command.ts";

export interface CommandEntry {
  /** As the parser wants it: angle brackets for what must be given. */
  readonly usage: string;
  readonly summary: string;
  readonly options: readonly (readonly [flag: string, text: string])[];
  readonly examples: readonly string[];
  /** Options that depend on what is given: those of a script. */
  moreOptions?(args: readonly string[]): Promise<readonly (readonly [flag: string, text: string])[]>;
  load(): Promise<Command>;
}

const SHAPE = [
  "--shape <NAME=1x3x48x320>",
  "Input shape; repeat for more inputs; the name may be left out where there is one input",
] as const;
const DEVICE = [
  "--device <cpu|x86|wasm|webgpu|cuda:0>",
  "Default cpu: x86-64 machine code where that works, WebAssembly elsewhere",
] as const;
const DEVICE_OR_REFERENCE = ["--device <cpu|x86|wasm|webgpu|cuda:0|reference>", "Default cpu; reference: plain float64 loops"] as const;
const ISA = ["--isa <avx512|avx2>", "Instruction set of device x86; default: the widest there is"] as const;
const THREADS = ["--threads <N>", "Default: the physical cores this process may use"] as const;
const SPARSE = ["--sparse <auto|always|never>", "Kernels for layers with sparse weights; default auto: where they are faster"] as const;
const PRECISION = [
  "--precision <f32|tf32|bf16|f16|f8>",
  "What products and convolutions multiply; default f32: as the model says; tf32 and f8 only on cuda",
] as const;
const SEED = ["--seed <N>", "Seed of random inputs (default 1)"] as const;
const JSON_FLAG = ["--json", "Print the result as one JSON object"] as const;
const PICTURES = [
  ["--mean <0.485,0.456,0.406>", "Images: (pixel/255 - mean) / std, one number or one a channel (default 0)"],
  ["--std <0.229,0.224,0.225>", "Images (default 1)"],
  ["--layout <nchw|nhwc>", "Images: order of axes; default: by where the input has 1 or 3 channels"],
  ["--bgr", "Images: blue first, as OpenCV reads them"],
] as const;

export const COMMANDS: readonly CommandEntry[] = [
  {
    usage: "doctor",
    summary: "Say what this machine can do, how fast it is at best, and what is missing",
    options: [
      ["--threads <N>", "Threads for the measurements; default: the physical cores"],
      ["--no-peaks", "Leave the measurements out"],
      ["--measure", "Measure anew by what layers with sparse weights get their kernels, and show it"],
      ["--clear-cache", "Remove all compiled programs, machine code and plans that are kept"],
      JSON_FLAG,
    ],
    examples: ["doctor", "doctor --json", "doctor --measure --threads 1"],
    load: async () => (await import("./commands/doctor.ts")).doctor,
  },
  {
    usage: "inspect <MODEL>",
    summary: "Show inputs, outputs, operators, memory; or the graph, the kernels, the machine code",
    options: [
      SHAPE,
      [
        "--stage <graph|layout|fused|lowered|asm|wgsl|cuda|ptx>",
        "graph as imported · layout: which nodes work with channels last, and why · fused: after all passes · lowered: kernels · asm: their code · wgsl, cuda, ptx: kernels for GPUs",
      ],
      ["--node <TEXT>", "Only nodes or kernels whose name or operator contains this"],
      DEVICE,
      ISA,
      THREADS,
      PRECISION,
      SPARSE,
      JSON_FLAG,
    ],
    examples: [
      "inspect model.onnx",
      "inspect rec.onnx --shape x=1x3x48x320 --stage fused",
      "inspect rec.onnx --shape 1x3x48x320 --stage asm --node Conv.3",
      "inspect rec.onnx --shape 1x3x48x320 --stage wgsl --node Conv.3",
    ],
    load: async () => (await import("./commands/inspect.ts")).inspect,
  },
  {
    usage: "run <MODEL>",
    summary: "Run a model on files or random numbers",
    options: [
      ["--input <NAME=FILE>", "x.npy, all.npz, photo.jpg, photo.png, or raw.bin:f32[1,3,48,320]; repeat for more"],
      ["--random", "Random numbers for inputs that are not given"],
      SEED,
      SHAPE,
      ["--output <NAME=FILE.npy>", "Write an output; FILE.npz without a name: all of them; repeat for more"],
      ["--output-dir <DIR>", "Write every output as NAME.npy"],
      ...PICTURES,
      ["--top <K>", "Print the K largest values of each output's last axis, for classifiers"],
      ["--repeat <N>", "Run N times and print the median time"],
      DEVICE_OR_REFERENCE,
      ISA,
      THREADS,
      PRECISION,
      SPARSE,
      JSON_FLAG,
    ],
    examples: [
      "run model.onnx --random --repeat 20",
      "run rec.onnx --input x=line.png --shape x=1x3x48x320 --mean 0.5 --std 0.5 --bgr --output y.npz",
      "run model.onnx --input 'x=raw.bin:f32[1,3,224,224]' --top 5",
    ],
    load: async () => (await import("./commands/run.ts")).run,
  },
  {
    usage: "verify <MODEL>",
    summary: "Compare heddle's outputs with another engine's; exit code 1 when they differ",
    options: [
      ["--against <onnxruntime|onnxruntime-web|wasm|reference>", "Default: onnxruntime where it is installed, else reference"],
      ["--tolerance <X>", "Largest relative error of values above 1e-3 (default 1e-3; by --precision more)"],
      ["--nodes", "Name the first node whose result is wrong"],
      SEED,
      SHAPE,
      DEVICE_OR_REFERENCE,
      ISA,
      THREADS,
      PRECISION,
      JSON_FLAG,
    ],
    examples: [
      "verify model.onnx",
      "verify det.onnx --shape x=1x3x640x640 --against onnxruntime --json",
      "verify model.onnx --device wasm --nodes",
      "verify model.onnx --device webgpu",
      "verify model.onnx --device cuda:0 --precision tf32",
    ],
    load: async () => (await import("./commands/verify.ts")).verify,
  },
  {
    usage: "bench <MODEL>",
    summary: "Time heddle and other engines in turns, their start-up and their memory",
    options: [
      ["--against <onnxruntime,onnxruntime-web,wasm|none>", "Default: onnxruntime where it is installed"],
      ["--seconds <S>", "Time for each engine's timed runs (default 3)"],
      ["--no-cold", "Leave out start-up time and memory, measured in fresh processes"],
      SEED,
      SHAPE,
      DEVICE,
      ISA,
      THREADS,
      PRECISION,
      SPARSE,
      JSON_FLAG,
    ],
    examples: [
      "bench det.onnx --shape x=1x3x640x640 --threads 2",
      "bench model.onnx --device wasm --against onnxruntime-web --no-cold",
      "bench model.onnx --json",
    ],
    load: async () => (await import("./commands/bench.ts")).bench,
  },
  {
    usage: "profile <MODEL>",
    summary: "Show where the time goes: by node, by operator, against what the machine could do",
    options: [
      ["--runs <N>", "Runs to take the median of (default 15)"],
      ["--all", "Every node, not only the slowest 25"],
      ["--trace <FILE.json>", "Write a trace for ui.perfetto.dev or chrome://tracing"],
      SEED,
      SHAPE,
      DEVICE,
      ISA,
      THREADS,
      PRECISION,
      SPARSE,
      JSON_FLAG,
    ],
    examples: [
      "profile det.onnx --shape x=1x3x640x640 --threads 1",
      "profile model.onnx --trace trace.json",
      "profile model.onnx --device cuda:0",
    ],
    load: async () => (await import("./commands/profile.ts")).profile,
  },
  {
    usage: "train <SCRIPT>",
    summary: "Train what a script defines: progress, checkpoints, resuming, curves",
    options: [
      ["--epochs <N>", "Times through the data; default: the script's"],
      ["--batch <N>", "Examples of a step; default: the script's"],
      ["--seed <N>", "Of weights, order and augmentation: the same seed gives the same weights; default: the script's"],
      ["--out <DIR>", "Folder of checkpoint.safetensors and model.safetensors (default runs/NAME, by the script's name)"],
      ["--resume", "Go on from the checkpoint in that folder"],
      ["--save-every <N>", "Save a checkpoint after N steps too, not only after each epoch"],
      ["--steps <N>", "End after step N; the schedule stays that of all epochs"],
      ["--workers <N>", "Threads that read data ahead; default: the script's"],
      ["--log <FILE.jsonl>", "Write losses and results as lines of JSON"],
      ["--csv <FILE.csv>", "Write them as a table"],
      ["--html <FILE.html>", "Write the curves as a page, or as a picture (FILE.svg)"],
      DEVICE_OR_REFERENCE,
      ISA,
      THREADS,
      ["--precision <f32|tf32|bf16|f16>", "What products and convolutions multiply (default f32); f16 scales losses; tf32 only on cuda"],
      JSON_FLAG,
    ],
    examples: [
      "train examples/fashion-mnist/train.ts",
      "train train.ts --precision bf16",
      "train train.ts --resume",
      "train train.ts --epochs 3 --log run.jsonl --html curve.html",
    ],
    moreOptions: async (args) => (await import("./commands/train.ts")).scriptFlags(args),
    load: async () => (await import("./commands/train.ts")).train,
  },
  {
    usage: "prune <MODEL>",
    summary: "Set most weights to zero, let the others make up for it, and say how near the outputs stay",
    options: [
      ["--sparsity <0.9>", "The part of the weights that goes; wanted unless --grain says it"],
      ["-o, --output <FILE.onnx>", "Write the pruned network"],
      ["--method <magnitude|wanda|sparsegpt|random>", "Default: sparsegpt with --data, magnitude without"],
      [
        "--grain <element|N:M|16x4|kernel|filter|layer>",
        "What goes together (default element); 2:4 keeps two of four neighbours, 16x4 blocks of so many outputs by inputs",
      ],
      [
        "--scope <row|layer|global|lamp>",
        "Within what weights compete (default layer; row for wanda); lamp: all layers, none of which goes whole",
      ],
      ["--allocate <size|speed>", "Which layers lose more (default size): as --scope says, or where zeros save most predicted time"],
      ["--data <FILE|DIR>", "Inputs: .npy or .npz with examples along the first axis, or a folder of pictures; repeat for more"],
      ["--generate", "Random numbers as inputs, where there are no data"],
      ["--samples <N>", "Examples to use at most (default 64); a quarter is held out to judge by"],
      ["--batch <N>", "Examples of a batch, where the model leaves that open (default 8)"],
      ["--exclude <NAME,…>", "Weights that stay dense; repeat for more"],
      ["--no-fit", "Do not refit each layer to the dense one's outputs"],
      ["--distill <STEPS>", "Train the pruned network on the dense one's outputs"],
      ["--rate <X>", "Largest learning rate of that (default 5e-4)"],
      ["--candidates <N>", "Masks that method random tries (default 50)"],
      ["--sparse-storage", "Store weights as positions and values where that is smaller"],
      ["--report <FILE.html|csv>", "Write a page with the layers, and agreement and time against sparsity; .csv: these numbers alone"],
      ["--sweep <0.5,0.7,…>", "Sparsities of that page (default 0.5,0.7,0.8,0.9)"],
      ["--bench <FILE.json>", "What heddle bench --json said of this and pruned models, for the page; repeat for more"],
      ...PICTURES,
      SEED,
      SHAPE,
      DEVICE,
      ISA,
      THREADS,
      JSON_FLAG,
    ],
    examples: [
      "prune model.onnx --sparsity 0.7 --data inputs.npy -o pruned.onnx",
      "prune model.onnx --grain 2:4 --data photos/ --shape x=8x3x224x224 --distill 200 -o pruned.onnx",
      "prune model.onnx --sparsity 0.8 --data inputs.npz --report report.html",
    ],
    load: async () => (await import("./commands/prune.ts")).prune,
  },
];
