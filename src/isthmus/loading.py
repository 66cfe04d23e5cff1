"""Load a saved model: a fitted Autoencoder or OutlierDetector."""

from collections.abc import Sequence
from pathlib import Path

from isthmus.detector import OutlierDetector, is_detector
from isthmus.detector.detector import load as load_detector
from isthmus.estimator import Autoencoder
from isthmus.estimator import load as load_autoencoder
from isthmus.spec import Spec


def load(
    folder: str | Path, *, device: str = "auto", specs: Sequence[type[Spec]] = ()
) -> Autoencoder | OutlierDetector:
    """Load the fitted Autoencoder or OutlierDetector that its method `save` wrote.

    No code in the folder is run: it holds JSON and tensors, no pickle.

    Parameters:
        folder: The folder that was saved to.
        device: "auto" (CUDA if available), "cpu", "cuda", or any name of a torch device.
        specs: Your own classes of specs that the model uses, such as a kind or a loss.

    Returns:
        An object of the class that was saved, on `device`.

    Raises:
        ArtifactError: The folder is missing, damaged, of another program, or of another version's
            format.

    Example:
        >>> import numpy as np, tempfile
        >>> from isthmus import Autoencoder, load
        >>> rows = np.random.default_rng(0).normal(size=(40, 3))
        >>> model = Autoencoder(2, max_epochs=1, random_state=0).fit(rows)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(folder + "/model")
        ...     loaded = load(folder + "/model")
        >>> bool(np.array_equal(loaded.transform(rows), model.transform(rows)))
        True
    """
    if is_detector(folder):
        return load_detector(folder, device=device, specs=specs)
    return load_autoencoder(folder, device=device, specs=specs)
