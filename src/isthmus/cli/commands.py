"""The commands as they are called; each hands over to a module that does the work.

Nothing heavy may be imported here, so that --help and a mistyped option answer at once.
"""

from typing import Annotated

import typer

from isthmus.cli.console import Console
from isthmus.cli.options import (
    ColorOption,
    ColumnOptions,
    DataArgument,
    DetectOptions,
    DeviceOption,
    FitOptions,
    ForceOption,
    ModelArgument,
    OptionalOutputOption,
    OutputOption,
    ReadingOptions,
    TrainingOptions,
)


def fit(
    data: DataArgument,
    output: OutputOption,
    options: FitOptions,
    training: TrainingOptions,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    console: Console,
) -> None:
    """Fit an autoencoder to DATA and write it as a folder, with report.html in it.

    With the defaults, a network that ends no better than PCA on the validation rows is replaced by
    PCA, and the report says so.

    The state of the fit is saved every 30 seconds in a hidden folder next to the output. After an
    interruption, the same command with --resume continues it and ends with the same weights.
    """
    from isthmus.cli.run.fit import run

    run(data, output, options, training, reading, column_options, console)


def encode(
    model: ModelArgument,
    data: DataArgument,
    output: OutputOption,
    reading: ReadingOptions,
    console: Console,
    *,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Compress each row of DATA to its code and write the codes as a table.

    The suffix of the output sets its format: .parquet, .csv, .tsv, .npy, .npz or .safetensors.
    Columns are matched by name, and columns that the model was not fitted on are ignored. Rows
    keep their order. --header, --missing and --resize are not part of the model; give them as for
    the fit.
    """
    from isthmus.cli.run.apply import encode as run

    run(model, data, output, reading, device, console, force=force)


def decode(
    model: ModelArgument,
    codes: Annotated[
        str,
        typer.Argument(
            metavar="CODES",
            help="A file of codes that isthmus encode wrote with the same model.",
            show_default=False,
        ),
    ],
    output: OutputOption,
    console: Console,
    *,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Reconstruct rows from their codes, in the form the model was fitted on.

    Tables go to a table file, arrays to .npy and the like. Images go to a folder of PNG files if
    the output has no suffix.
    """
    from isthmus.cli.run.decode import run

    run(model, codes, output, device, console, force=force)


def score(
    model: ModelArgument,
    data: DataArgument,
    output: OutputOption,
    reading: ReadingOptions,
    console: Console,
    *,
    by_feature: Annotated[
        bool,
        typer.Option("--by-feature", help="Write one column per feature instead of the mean."),
    ] = False,
    by_timestep: Annotated[
        bool,
        typer.Option(
            "--by-timestep",
            help="Recordings only: write one row per timestep instead of one per window or series.",
        ),
    ] = False,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Write the mean squared reconstruction error of each row of DATA.

    The mean is over the features, in the units that the report of the fit names. Rows keep their
    order. To find outliers, with a threshold and reasons, use isthmus detect.
    """
    from isthmus.cli.run.apply import score as run

    by = ["feature"] * by_feature + ["timestep"] * by_timestep
    run(model, data, output, reading, device, console, by=by, force=force)


def impute(
    model: ModelArgument,
    data: DataArgument,
    output: OutputOption,
    reading: ReadingOptions,
    console: Console,
    *,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Write DATA with its missing values filled in; all other values stay as they are.

    MODEL must support missing values. It does if it was fitted on rows that have some, on a table
    with text or categories, or with --corruption missing.
    """
    from isthmus.cli.run.apply import impute as run

    run(model, data, output, reading, device, console, force=force)


def detect(
    data: DataArgument,
    output: OutputOption,
    options: DetectOptions,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    console: Console,
    *,
    device: DeviceOption = "auto",
) -> None:
    """Find outliers: write an outlier score for each row of DATA, and whether it is an outlier.

    The columns written are score, outlier (1 or 0) and, with --explain, reason_1 to reason_3.
    Before them are the file name of an image, or the recording and start of a window. Rows keep
    their order. By default the detector is fitted to DATA itself. --train fits it to other rows,
    and --detector uses one that --save wrote.
    """
    from isthmus.cli.run.detect import run

    run(data, output, options, reading, column_options, device, console)


def compare(
    data: DataArgument,
    training: TrainingOptions,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    console: Console,
    *,
    n_components: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Code sizes to compare, as in 2,8,32. The default is those of 2, 8 and 32 that "
            "are below the number of features.",
        ),
    ] = None,
    other: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Images to compare with JPEG on as well. The default is pieces of two sample "
            "photographs.",
        ),
    ] = None,
    output: OptionalOutputOption = None,
    force: ForceOption = False,
) -> None:
    """Compare autoencoders with PCA at equal code size, and with JPEG for images.

    All methods are tested on the same held-out rows. With -o FILE.json the numbers are also
    written to a file.
    """
    from isthmus.cli.run.compare import run

    run(data, n_components, other, output, training, reading, column_options, console, force=force)


def report(
    model: ModelArgument,
    reading: ReadingOptions,
    console: Console,
    *,
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]",
            help="Other data to report on. Without it, the report of the fit is drawn again.",
            show_default=False,
        ),
    ] = None,
    output: OptionalOutputOption = None,
    compare_with: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Another model of the same data, to add its learning curve to the page.",
            show_default=False,
        ),
    ] = None,
    color: ColorOption = None,
    device: DeviceOption = "auto",
    force: ForceOption = False,
) -> None:
    """Draw MODEL/report.html again, or report on how the model does on other data.

    Without DATA, the page is drawn from what the fit measured; no data are read. With DATA, give
    -o FILE.html for the new page, or --force to replace the report of the fit.
    """
    from isthmus.cli.run.show import report as run

    run(model, data, output, compare_with, color, reading, device, console, force=force)


def info(model: ModelArgument, console: Console) -> None:
    """Show what MODEL is: its settings, its data, decisions of the fit, and library versions."""
    from isthmus.cli.run.show import info as run

    run(model, console)
