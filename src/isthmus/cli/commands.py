"""The commands as they are called; each hands over to a module that does the work.

Nothing heavy may be imported here, so that --help and a mistyped option answer at once.
"""

from typing import Annotated

import typer

from isthmus.cli.console import Talk
from isthmus.cli.options import (
    Choosing,
    Color,
    Computing,
    Data,
    Detecting,
    Fit,
    Force,
    MaybeOutput,
    Model,
    Output,
    Reading,
    Training,
)


def fit(
    data: Data,
    output: Output,
    wanted: Fit,
    training: Training,
    reading: Reading,
    choosing: Choosing,
    talk: Talk,
) -> None:
    """Learn a code of DATA; writes a model folder with report.html in it.

    While it learns, its state is kept in a hidden folder beside the output; --resume goes on from
    there to the same weights.
    """
    from isthmus.cli.run.fit import run

    run(data, output, wanted, training, reading, choosing, talk)


def encode(
    model: Model,
    data: Data,
    output: Output,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    force: Force = False,
) -> None:
    """Write the codes of DATA: .parquet, .csv, .tsv, .npy, .npz or .safetensors.

    Columns are matched by name; columns that the model does not know are left out.
    """
    from isthmus.cli.run.apply import encode as run

    run(model, data, output, reading, computing, talk, force=force)


def decode(
    model: Model,
    codes: Annotated[
        str,
        typer.Argument(metavar="CODES", help="A file that encode wrote.", show_default=False),
    ],
    output: Output,
    computing: Computing,
    talk: Talk,
    *,
    force: Force = False,
) -> None:
    """Write what the codes stand for, as what the model was fitted on: table, images, arrays.

    A path without a suffix becomes a folder of PNG images.
    """
    from isthmus.cli.run.decode import run

    run(model, codes, output, computing, talk, force=force)


def score(
    model: Model,
    data: Data,
    output: Output,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    by_feature: Annotated[
        bool, typer.Option("--by-feature", help="Write one column a feature.")
    ] = False,
    by_sample: Annotated[
        bool,
        typer.Option("--by-sample", help="Write one row a sample of recordings, not a window."),
    ] = False,
    force: Force = False,
) -> None:
    """Write the squared reconstruction error of each row of DATA: its mean, or by feature."""
    from isthmus.cli.run.apply import score as run

    by = ["feature"] * by_feature + ["sample"] * by_sample
    run(model, data, output, reading, computing, talk, by=by, force=force)


def impute(
    model: Model,
    data: Data,
    output: Output,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    force: Force = False,
) -> None:
    """Write DATA with its missing values filled in; all others stay as they are.

    MODEL must know gaps: fitted on rows that have some, or with --corruption missing.
    """
    from isthmus.cli.run.apply import impute as run

    run(model, data, output, reading, computing, talk, force=force)


def detect(
    data: Data,
    output: Output,
    wanted: Detecting,
    reading: Reading,
    choosing: Choosing,
    computing: Computing,
    talk: Talk,
) -> None:
    """Write how odd each row of DATA is, whether that is too odd, and with --explain why.

    The rows are learned from and judged at once; --train learns from others, and --with takes a
    detector that was kept with --save.
    """
    from isthmus.cli.run.detect import run

    run(data, output, wanted, reading, choosing, computing, talk)


def compare(
    data: Data,
    training: Training,
    reading: Reading,
    choosing: Choosing,
    talk: Talk,
    *,
    components: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="The code sizes to compare at. By default 2, 8 and 32, as far as a row has more "
            "numbers.",
        ),
    ] = None,
    other: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Images from elsewhere, to compare with JPEG on too."),
    ] = None,
    output: MaybeOutput = None,
    force: Force = False,
) -> None:
    """Set autoencoders beside PCA, and beside JPEG for images, at equal size on the same rows.

    -o FILE.json keeps the figures.
    """
    from isthmus.cli.run.compare import run

    run(data, components, other, output, training, reading, choosing, talk, force=force)


def report(
    model: Model,
    reading: Reading,
    computing: Computing,
    talk: Talk,
    *,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]", help="Other data to show the model on.", show_default=False
        ),
    ] = None,
    output: MaybeOutput = None,
    beside: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Another model of the same data, whose learning curve to draw in.",
            show_default=False,
        ),
    ] = None,
    color: Color = None,
    force: Force = False,
) -> None:
    """Draw MODEL/report.html again, or a report of the model on other data.

    With -o FILE.html the page goes there and the model folder stays as it is.
    """
    from isthmus.cli.run.show import report as run

    run(model, data, output, beside, color, reading, computing, talk, force=force)


def info(model: Model, talk: Talk) -> None:
    """Tell what MODEL is: its settings, what it was fitted on, and the versions that wrote it."""
    from isthmus.cli.run.show import info as run

    run(model, talk)
