"""The autograd engine: one step at a time, for any network, objective and optimizer."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from isthmus.training.engines.base import Corrupt, TermsFunction
from isthmus.types import Network, Step


class AutogradStep:
    """A training step whose gradients come from torch's autograd."""

    def __init__(
        self, network: Network, objective: TermsFunction, corrupt: Corrupt | None, *, bf16: bool
    ) -> None:
        self.network, self.objective, self.corrupt, self.bf16 = network, objective, corrupt, bf16

    def bound(self) -> AbstractContextManager[None]:
        """A context that does nothing: the weights stay where they are."""
        return nullcontext()

    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return every term of the batch, detached; leave the gradient of their sum in `.grad`."""
        seen = x if self.corrupt is None else self.corrupt(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            output = self.network(seen)
        output = output._replace(
            reconstruction=output.reconstruction.to(x.dtype), code=output.code.to(x.dtype)
        )
        terms = self.objective(Step(self.network, x, seen, output, weight))
        total = torch.stack(list(terms.values())).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return {name: term.detach() for name, term in terms.items()}
