"""What a fit leaves of the process it runs in."""

import subprocess
import sys


def test_a_fit_of_a_dense_network_imports_no_compiler():
    code = (
        "import sys, numpy as np; from isthmus import Autoencoder; "
        "X = np.random.default_rng(0).normal(size=(60, 5)); "
        "Autoencoder(2, max_epochs=2).fit(X); print('torch._dynamo' in sys.modules); "
        "import torch; p = [torch.nn.Parameter(torch.zeros(2))]; "
        "torch.optim.Adam(p).zero_grad(); print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # Afterwards torch's optimizers do again what they did before.
    assert ran.stdout.split() == ["False", "True"]


def test_fits_at_the_same_time_import_none_either():
    code = (
        "import sys, numpy as np; from isthmus import Autoencoder, fit_together; "
        "X = np.random.default_rng(0).normal(size=(60, 5)); "
        "fit_together([Autoencoder(2, max_epochs=n) for n in (1, 2, 3)], X); "
        "print('torch._dynamo' in sys.modules); "
        "import torch; p = [torch.nn.Parameter(torch.zeros(2))]; "
        "torch.optim.Adam(p).zero_grad(); print('torch._dynamo' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["False", "True"]
