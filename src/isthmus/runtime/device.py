"""The device and the precision of a fit."""

import torch

from isthmus.errors import RequestError, require
from isthmus.spec import short_repr

PRECISIONS = ("auto", "float64", "float32", "bf16")


def resolve_device(name: str | torch.device) -> torch.device:
    """The torch device of a name; "auto" is the GPU if there is one.

    Raises RequestError if torch does not know the name or the device is missing.
    """
    name = str(name) if isinstance(name, torch.device) else name
    require(
        isinstance(name, str), f"device={short_repr(name)} must be a name, such as 'cpu' or 'auto'"
    )
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).splitlines()[0].split(". ")[0]
        raise RequestError(
            f"device={name!r} cannot be used here ({reason}); use 'cpu' or 'auto'"
        ) from error
    require(device.type != "meta", f"device={name!r} computes nothing; use 'cpu' or 'auto'")
    return device
