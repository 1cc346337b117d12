"""What processes of test_torch_world.py run; a spawned one imports it by name."""

import torch

import fastoptim.torch as ft


def work(rank, m):
    opt = ft.SGD(m.parameters(), lr=0.5)
    for _ in range(2):
        for p in m.parameters():
            p.grad = torch.ones_like(p)
        opt.step()
