# pyright: strict
"""What a typed program does with `fastoptim.torch`. It is read by type checkers and never run.

Each line that ends in ``# error`` must be refused by every checker, and no other line.
"""

from typing import Any

import torch

import fastoptim as fo
from fastoptim.torch import SGD, AdamW, Optimizer, SparseAdam

net = torch.nn.Linear(3, 2)
opt = AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99), fused=True)
theirs: torch.optim.AdamW = opt
schedule = torch.optim.lr_scheduler.ExponentialLR(opt, gamma=0.9)
opt.zero_grad(set_to_none=True)
opt.step()
opt.load_state_dict(opt.state_dict())
opt.save("model.opt")
rule: fo.Optimizer = opt.rule
groups: list[dict[str, Any]] = [{"params": [net.weight]}, {"params": [net.bias], "lr": 0.1}]
several = SGD(groups, momentum=0.9)
sparse: torch.optim.Optimizer = SparseAdam(net.parameters(), lr=0.01)
own = Optimizer(net.named_parameters(), fo.Lion(lr=1e-4, clip_norm=1.0))
with own.averaged():
    pass

AdamW(net.parameters(), lr="fast")  # error
AdamW(net.parameters(), momentum=0.9)  # error
SGD(net.parameters(), nesterov=1.5)  # error
Optimizer(net.parameters())  # error
Optimizer(net.parameters(), fo.Lion)  # error
Optimizer(net.parameters(), torch.optim.SGD(net.parameters()))  # error
opt.averaged()  # error
opt.save(3)  # error
