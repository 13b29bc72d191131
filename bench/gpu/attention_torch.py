"""What PyTorch's scaled_dot_product_attention takes for the shapes of bench/gpu/attention.ts: twenty calls in a CUDA graph, the best of six; prints JSON.

python3 bench/gpu/attention_torch.py
"""

import json
import time

import torch
import torch.nn.functional as F

# batch, heads of keys, heads of queries for each, queries, keys, columns, causal
WORKS = {
    "characters": (1, 8, 1, 40, 40, 15, False),
    "gpt-2 step": (1, 12, 1, 1, 1024, 64, False),
    "bert 128": (1, 12, 1, 128, 128, 64, False),
    "vit": (1, 12, 1, 197, 197, 64, False),
    "picture by text": (1, 8, 1, 4096, 77, 40, False),
    "llama step": (1, 8, 4, 1, 4096, 128, False),
    "bert 384": (8, 12, 1, 384, 384, 64, False),
    "deep": (1, 8, 1, 1024, 1024, 256, False),
    "gpt-2 causal": (8, 12, 1, 1024, 1024, 64, True),
    "picture": (1, 8, 1, 4096, 4096, 40, False),
    "llama step of 4": (4, 8, 4, 1, 4096, 128, False),
    "llama prompt": (1, 8, 4, 2048, 2048, 128, True),
}
CALLS = 20


def microseconds(call):
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(CALLS):
            call()
    taken = []
    for _ in range(6):
        start = time.perf_counter()
        graph.replay()
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) / CALLS)
    return round(min(taken) * 1e6, 2)


def attention(batch, heads, group, queries, keys, depth, causal, dtype):
    draw = lambda count, places: torch.randn(batch, count, places, depth, device="cuda", dtype=dtype)
    q, k, v = draw(heads * group, queries), draw(heads, keys), draw(heads, keys)
    return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=group > 1)


if __name__ == "__main__":
    types = {"f32": torch.float32, "bf16": torch.bfloat16}
    rows = [{"work": name, "dtype": of, "us": microseconds(attention(*work, dtype))} for of, dtype in types.items() for name, work in WORKS.items()]
    print(json.dumps({"torch": torch.__version__, "gpu": torch.cuda.get_device_name(), "rows": rows}))
