"""One training step: batch in, named losses and gradients out."""

from collections.abc import Callable

import torch
from torch import Tensor

from isthmus.types import Network, Step

Objective = Callable[[Step], dict[str, Tensor]]
Corrupt = Callable[[Tensor], Tensor]


class AutogradStep:
    """Losses and gradients by torch's autograd, for any network and objective."""

    def __init__(
        self, network: Network, objective: Objective, corrupt: Corrupt | None, *, bf16: bool
    ) -> None:
        self.network, self.objective, self.corrupt, self.bf16 = network, objective, corrupt, bf16

    def __call__(self, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Every term of the batch, detached; the gradient of their sum is left in `.grad`."""
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


@torch.no_grad()
def losses(network: Network, objective: Objective, x: Tensor, weight: Tensor) -> dict[str, Tensor]:
    """Every term of a clean batch, without gradients."""
    return objective(Step(network, x, x, network(x), weight))
