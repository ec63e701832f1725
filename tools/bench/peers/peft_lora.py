"""A whole step of PEFT's LoRA on nn.Embedding: lookup, backward from a given gradient of the output, AdamW."""

from peer import batches, config, serve

import peft
import torch

torch.set_num_threads(config["threads"])
V, D, ids = config["rows"], config["dim"], torch.from_numpy(batches()).long()


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.table = torch.nn.Embedding(V, D, _weight=torch.empty(V, D).normal_(std=0.1))

    def forward(self, places):
        return self.table(places)


model = peft.get_peft_model(Model(), peft.LoraConfig(r=config["rank"], lora_alpha=16, target_modules=["table"]))
trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
gradient = torch.randn(ids.shape[1], D) * 1e-3
assert len(trained) == 2


def variant(**options):
    optimizer = None

    def step(batch):
        nonlocal optimizer
        optimizer = optimizer or torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0, **options)
        model(ids[batch]).backward(gradient)
        optimizer.step()
        optimizer.zero_grad()

    return step


serve({"AdamW(fused)": variant(fused=True), "AdamW": variant()}, PEFT=peft.__version__, PyTorch=torch.__version__)
