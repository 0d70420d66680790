"""The tests' tensors are small: one thread is faster than several that wait for each other."""

from collections.abc import Iterator

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Torch has one thread again, whatever a test set."""
    yield
    torch.set_num_threads(1)
