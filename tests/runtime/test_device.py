"""What a fit leaves of the process it runs in."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "fitted",
    [
        "Autoencoder(2, max_epochs=2).fit(X)",
        # The first to end must not take from the others what it told torch for all of them.
        "fit_together([Autoencoder(2, max_epochs=n) for n in (1, 2, 3)], X)",
    ],
    ids=["one", "together"],
)
def test_fits_of_dense_networks_import_no_compiler(fitted):
    code = (
        "import sys, numpy as np; from isthmus import Autoencoder, fit_together; "
        "X = np.random.default_rng(0).normal(size=(60, 5)); "
        f"{fitted}; print('torch._dynamo' in sys.modules); "
        "import torch; p = [torch.nn.Parameter(torch.zeros(2))]; "
        "torch.optim.Adam(p).zero_grad(); print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Afterwards torch's optimizers do again what they did before.
    assert ran.stdout.split() == ["False", "True"]
