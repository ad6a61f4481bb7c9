"""Makes tests/models/checkpoint/torch: small files of torch.save in both formats.

Run with the oracle's interpreter from the source tree's root:
    oracle tests/models/checkpoint/make_torch_files.py

Element i of tensor number n (in the order of TENSORS) is (i * 7 + n) % 101 - 50, in every type; the
test computes the same. A second run gives the same values.
"""

from collections import OrderedDict
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent / "torch"


def numbers(n, *shape):
    count = torch.Size(shape).numel()
    return ((torch.arange(count) * 7 + n) % 101 - 50).reshape(shape)


def state():
    """One of every kind that state dicts have."""
    tensors = OrderedDict()
    tensors["float"] = numbers(0, 5, 3).float()
    tensors["half"] = numbers(1, 7).half()
    tensors["bfloat"] = numbers(2, 2, 2, 3).bfloat16()
    tensors["double"] = numbers(3, 4).double()
    tensors["transposed"] = numbers(4, 40, 37).float().t().contiguous().t()
    tensors["part"] = torch.cat([torch.zeros(9, 2), numbers(5, 9, 6).float(), torch.ones(9, 1)], 1)[:, 2:8]
    tensors["tied"] = tensors["float"]
    tensors["parameter"] = torch.nn.Parameter(numbers(7, 6).float(), requires_grad=False)
    tensors["scalar"] = numbers(8).float()
    tensors["empty"] = torch.zeros(0, 4)
    tensors["batches"] = torch.tensor(7)
    tensors["position_ids"] = torch.arange(16)[None]
    tensors["mask"] = torch.tensor([True, False])
    tensors["version"] = 3
    tensors["name"] = "a string"
    tensors._metadata = OrderedDict([("", {"version": 1})])
    return tensors


def main():
    ROOT.mkdir(exist_ok=True)
    torch.save(state(), ROOT / "zip.bin")
    torch.save(state(), ROOT / "legacy.bin", _use_new_zipfile_serialization=False)
    torch.save(dict(state()), ROOT / "protocol4.bin", pickle_protocol=4)
    torch.save({"state_dict": state(), "epoch": 3}, ROOT / "nested.bin")
    torch.save(torch.nn.Linear(2, 2), ROOT / "module.bin")
    torch.save({"a": torch.zeros(3).to_sparse()}, ROOT / "sparse.bin")
    torch.save({"a": numbers(0, 3).float(), "b": numbers(0, 3).numpy()}, ROOT / "numpy.bin")


main()
