"""What PyTorch (and onnxruntime, where it has a CUDA provider) takes for the same work, on the same GPU; prints JSON.

python3 bench/gpu/networks_torch.py [--products MxNxK,…] [--dtype bf16,f32] (products also tf32, and i8, f8: by torch._int_mm and torch._scaled_mm) [--layers FILE] [--resnet50 BATCH] [--onnx FILE@1x3x640x640,…]
--layers: a list that `npm run bench -- gpu/networks --layers` printed.
"""

import argparse
import importlib
import json
import time

import torch
from torch import nn

DTYPES = {"f32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16, "i8": torch.int8, "f8": torch.float8_e4m3fn}
TRIES = 20


def times(run, count=1):
    """Milliseconds of one of `count` rounds of run(), of twenty tries: median and best."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    taken = []
    for _ in range(TRIES):
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) * 1e3 / count)
    taken.sort()
    return {"median": round(taken[TRIES // 2], 5), "best": round(taken[0], 5)}


def captured(run):
    """run() as a CUDA graph."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def multiplication(m, n, k, name):
    """A product of random numbers; of 8 bits: as matrix units want them, the right operand stored by columns."""
    dtype = DTYPES[name]
    if name == "i8":
        a, b = (torch.randint(-128, 128, shape, device="cuda", dtype=dtype) for shape in ((m, k), (n, k)))
        return lambda: torch._int_mm(a, b.t())
    a, b = (torch.rand(shape, device="cuda", dtype=torch.float32) * 2 - 1 for shape in ((m, k), (n, k) if name == "f8" else (k, n)))
    a, b = a.to(dtype), b.to(dtype)
    if name == "f8":
        one = torch.ones((), device="cuda")
        return lambda: torch._scaled_mm(a, b.t(), scale_a=one, scale_b=one, out_dtype=torch.bfloat16, use_fast_accum=False)
    out = torch.empty(m, n, device="cuda", dtype=dtype)
    return lambda: torch.mm(a, b, out=out)


def product(m, n, k, name, rounds=20):
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    once = multiplication(m, n, k, name)

    def run():
        for _ in range(rounds):
            once()

    ms = times(captured(run), rounds)
    torch.backends.cuda.matmul.allow_tf32 = False
    return {"ms": ms, "tflops": round(2 * m * n * k / ms["median"] / 1e9, 1)}


def operation(layer, dtype):
    """A convolution, channels last, or a product, on random numbers."""
    draw = lambda *shape: torch.randn(*shape, device="cuda", dtype=dtype)
    if layer["k"] == "matmul":
        a, b = draw(layer["batch"], layer["m"], layer["depth"]), draw(layer["batch"], layer["depth"], layer["n"])
        return lambda: torch.bmm(a, b)
    last = lambda t: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t
    x = last(draw(layer["batch"], layer["inChannels"], *layer["input"]))
    w = last(draw(layer["outChannels"], layer["inChannels"] // layer["group"], *layer["kernel"]))
    conv = {3: torch.conv1d, 4: torch.conv2d, 5: torch.conv3d}[x.dim()]
    return lambda: conv(x, w, None, layer["strides"], layer["pads"], layer["dilations"], layer["group"])


def layers(path, dtype):
    """All convolutions and products of a network, without what is between them."""
    out = {}
    for name, network in json.load(open(path)).items():
        operations = [operation(layer, dtype) for layer in network]

        def run():
            for f in operations:
                f()

        out[name] = {"eagerMs": times(run), "graphMs": times(captured(run)), "layers": len(operations)}
    return out


class Block(nn.Module):
    def __init__(self, channels, width, stride, normalize):
        super().__init__()
        layer = lambda i, o, k, s: nn.Sequential(
            nn.Conv2d(i, o, k, s, k // 2, bias=not normalize), *([nn.BatchNorm2d(o)] if normalize else [])
        )
        self.first, self.second, self.third = layer(channels, width, 1, 1), layer(width, width, 3, stride), layer(width, 4 * width, 1, 1)
        self.shortcut = layer(channels, 4 * width, 1, stride) if channels != 4 * width else None

    def forward(self, x):
        y = torch.relu_(self.first(x))
        y = torch.relu_(self.second(y))
        return torch.relu_(self.third(y) + (x if self.shortcut is None else self.shortcut(x)))


class FusedBlock(Block):
    """The same by cuDNN's convolutions with bias, sum and ReLU in one kernel."""

    def forward(self, x):
        call = lambda conv, t: torch.cudnn_convolution_relu(t, conv.weight, conv.bias, conv.stride, conv.padding, (1, 1), 1)
        y = call(self.second[0], call(self.first[0], x))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        conv = self.third[0]
        return torch.cudnn_convolution_add_relu(y, conv.weight, shortcut, 1.0, conv.bias, conv.stride, conv.padding, (1, 1), 1)


def resnet50_module(block, normalize):
    stem = [nn.Conv2d(3, 64, 7, 2, 3, bias=not normalize), *([nn.BatchNorm2d(64)] if normalize else []), nn.ReLU(inplace=True)]
    parts, channels = [*stem, nn.MaxPool2d(3, 2, 1)], 64
    for stage, (blocks, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512))):
        for i in range(blocks):
            parts.append(block(channels, width, 2 if stage > 0 and i == 0 else 1, normalize))
            channels = 4 * width
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1000))


def resnet50(batch, dtype):
    """Inference, channels last, in CUDA graphs: as it is trained, with normalizations folded, and with cuDNN's fused convolutions."""
    out = {}
    x = torch.randn(batch, 3, 224, 224, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
    for name, block, normalize in (("batchNormalized", Block, True), ("folded", Block, False), ("foldedAndFused", FusedBlock, False)):
        try:
            model = resnet50_module(block, normalize).eval().to("cuda", dtype, memory_format=torch.channels_last)
            run = lambda: model(x)
            out[name] = {"eagerMs": times(run), "graphMs": times(captured(run))}
        except RuntimeError as error:
            out[name] = {"error": str(error).splitlines()[0][:200]}
    return out


def onnxruntime(networks):
    """Networks on onnxruntime's CUDA provider; without it, which providers there are."""
    try:
        runtime = importlib.import_module("onnxruntime")
    except ImportError as error:
        return {"error": str(error)}
    out = {"version": runtime.__version__, "providers": runtime.get_available_providers()}
    if "CUDAExecutionProvider" not in out["providers"]:
        return out
    for text in networks:
        file, size = text.rsplit("@", 1)
        session = runtime.InferenceSession(file, providers=["CUDAExecutionProvider"])
        name = session.get_inputs()[0].name
        x = torch.rand([int(d) for d in size.split("x")]).numpy() * 2 - 1
        out[text] = {"ms": times(lambda: session.run(None, {name: x})), "used": session.get_providers()}
    return out


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--products", default="")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--layers")
    parser.add_argument("--resnet50", type=int)
    parser.add_argument("--onnx", default="")
    options = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    out = {"torch": torch.__version__, "cudnn": torch.backends.cudnn.version(), "device": torch.cuda.get_device_name()}
    types = {name: DTYPES[name] for name in options.dtype.split(",")}
    with torch.inference_mode():
        sizes = [size for size in options.products.split(",") if size]
        if sizes:
            out["products"] = {
                name: {size: product(*(int(d) for d in size.split("x")), name) for size in sizes} for name in types
            }
        if options.layers:
            out["layers"] = {name: layers(options.layers, dtype) for name, dtype in types.items()}
        if options.resnet50:
            out["resnet50"] = {name: resnet50(options.resnet50, dtype) for name, dtype in types.items()}
        out["onnxruntime"] = onnxruntime([text for text in options.onnx.split(",") if text])
    print(json.dumps(out, indent=1))


main()
