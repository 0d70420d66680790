"""Torch modules from files that hold their code: TorchScript and ``torch.export`` programs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from labelleaks.errors import SpecError

__all__ = ["EXPORTED", "TORCHSCRIPT", "Exported", "load_exported", "load_torchscript"]

TORCHSCRIPT = (".pt", ".ts", ".torchscript")
EXPORTED = (".pt2",)


def load_torchscript(path: str | Path) -> Any:
    """Load a TorchScript archive on the CPU; nothing is unpickled but tensors.

    Raises:
        SpecError: the file is none.
    """
    try:
        return torch.jit.load(str(path), map_location="cpu")
    except (RuntimeError, ValueError) as error:
        raise SpecError(
            f"target {str(path)!r} is not TorchScript ({str(error).splitlines()[0]}); save weights as .safetensors"
        ) from None


def load_exported(path: str | Path, *, trust_pickle: bool = False) -> Exported:
    """Load a program that ``torch.export.save`` wrote.

    Raises:
        SpecError: the file is none, or ``trust_pickle`` is not set: parts of such a file are unpickled.
    """
    if not trust_pickle:
        raise SpecError(f"target {str(path)!r}: a .pt2 file can run any code when it is loaded; say --trust-pickle")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about the versions of the format, which are torch's affair
            program = torch.export.load(str(path))
    except Exception as error:  # unpickling somebody's file can raise anything
        raise SpecError(
            f"target {str(path)!r} is no program of torch.export "
            f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
        ) from None
    return Exported(program)


class Exported(nn.Module):
    """An exported program as a module: it has one mode only, and takes the rows that it was exported for.

    A program whose first axis is fixed at one row is asked row by row.

    Raises:
        SpecError: it takes several inputs, or a fixed number of rows above one.
    """

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        super().__init__()
        taken = program.graph_signature.user_inputs
        if len(taken) != 1:
            raise SpecError(f"an exported program with {len(taken)} inputs: one is needed, the rows")
        self.program = program.module()
        self._singly = _rows(program, str(taken[0])) == 1
        self._code = str(program.graph_module.code)  # says what is computed, where the module's own text does not

    def train(self, mode: bool = True) -> Exported:
        """Note the mode; the program was exported in one and stays in it."""
        self.training = mode
        return self

    def extra_repr(self) -> str:
        return self._code

    def forward(self, x: Tensor) -> Any:
        if self._singly and len(x) != 1:
            return torch.cat([self.program(x[i : i + 1]) for i in range(len(x))])
        return self.program(x)


def _rows(program: torch.export.ExportedProgram, name: str) -> int | None:
    """Return the number of rows that the program takes; None: any number."""
    node = next(node for node in program.graph.nodes if node.op == "placeholder" and node.name == name)
    rows = node.meta["val"].shape[0]
    if not isinstance(rows, int):
        return None
    if rows > 1:
        raise SpecError(
            f"the program was exported for {rows} rows at a time; export it with a dynamic first axis "
            "(dynamic_shapes=({0: torch.export.Dim('rows')},))"
        )
    return rows
