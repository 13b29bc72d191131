# The same training step in PyTorch: eager, scaled_dot_product_attention, bfloat16 autocast, AdamW; prints milliseconds as JSON.
import argparse, json, time
import torch, torch.nn as nn, torch.nn.functional as F

p = argparse.ArgumentParser()
for name, value in dict(layers=12, width=768, heads=12, vocabulary=50257, context=1024, batch=8, steps=20).items():
    p.add_argument(f"--{name}", type=int, default=value)
p.add_argument("--fused", action="store_true", help="AdamW as one kernel")
o = p.parse_args()


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(o.width), nn.LayerNorm(o.width)
        self.qkv, self.proj = nn.Linear(o.width, 3 * o.width), nn.Linear(o.width, o.width)
        self.fc, self.out = nn.Linear(o.width, 4 * o.width), nn.Linear(4 * o.width, o.width)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = (y.view(b, t, o.heads, c // o.heads).transpose(1, 2) for y in self.qkv(self.ln1(x)).split(c, 2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c)
        x = x + self.proj(y)
        return x + self.out(F.gelu(self.fc(self.ln2(x)), approximate="tanh"))


class Gpt2(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(o.vocabulary, o.width), nn.Embedding(o.context, o.width)
        self.h = nn.ModuleList(Block() for _ in range(o.layers))
        self.ln = nn.LayerNorm(o.width)
        self.head = nn.Linear(o.width, o.vocabulary, bias=False)
        self.head.weight = self.wte.weight
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)

    def forward(self, x):
        x = self.wte(x) + self.wpe(torch.arange(x.shape[1], device=x.device))
        for block in self.h:
            x = block(x)
        return self.head(self.ln(x))


torch.manual_seed(1)
model = Gpt2().cuda()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, **({"fused": True} if o.fused else {}))
batches = [torch.randint(o.vocabulary, (2, o.batch, o.context), device="cuda") for _ in range(4)]


def step(x, y):
    with torch.autocast("cuda", dtype=torch.bfloat16):
        loss = F.cross_entropy(model(x).view(-1, o.vocabulary), y.view(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss


losses = [step(*batches[i % 4]).item() for i in range(5)]
ms = []
for i in range(o.steps):
    torch.cuda.synchronize()
    start = time.perf_counter()
    step(*batches[i % 4]).item()
    ms.append(1000 * (time.perf_counter() - start))
parameters = sum(w.numel() for w in model.parameters())
tokens = o.batch * o.context
median = sorted(ms)[len(ms) // 2]
print(json.dumps({
    "engine": f"PyTorch {torch.__version__}, eager, scaled_dot_product_attention, bfloat16 autocast, AdamW{' fused' if o.fused else ''}",
    "device": torch.cuda.get_device_name(), "parameters": parameters, "losses": losses, "ms": median, "fastestMs": min(ms),
    "tokensPerSecond": 1000 * tokens / median,
    "tflops": tokens * (6 * parameters + 12 * o.layers * o.width * o.context) / median / 1e9,
    "deviceBytes": torch.cuda.max_memory_allocated(),
}))
