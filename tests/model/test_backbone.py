"""How timm is imported: in a process of its own each time, for what is imported stays."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

BUILT = """
import sys
import torch
from model import backbone
{before}
network, _ = backbone.build_backbone("test_mambaout")
with torch.inference_mode():
    network.eval()(torch.zeros(1, 3, 64, 64))
{after}
"""
WITHOUT = "assert not {'torch._dynamo', 'sympy'} & sys.modules.keys()"
AS_EVER = """
compiled = torch.compile(lambda x: x + 1, backend="eager")
assert compiled(torch.ones(1)).item() == 2
assert torch._dynamo.__file__
"""
OF_ANOTHER_VERSION = """
import types
backbone._stand_ins = lambda: {
    name: types.ModuleType(name) for name in ("torch._dynamo", "torch._dynamo.utils")
}
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [("", WITHOUT + AS_EVER), (OF_ANOTHER_VERSION, AS_EVER)],
    ids=["stand-ins", "stand-ins that do not do"],
)
def test_a_network_is_built_without_the_compiler_which_is_there_as_ever(
    before: str, after: str
) -> None:
    code = BUILT.format(before=before, after=after)
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
