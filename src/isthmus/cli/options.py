"""The options of the commands, in groups, with their help texts."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from isthmus.cli.registered_names import registered_names

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A .csv, .tsv, .parquet, .npy, .npz, .safetensors or IDX file, or a folder of "
        ".parquet files, of PNG or JPEG images, or of recordings. "
        "arrays.npz:NAME selects one of several arrays.",
        show_default=False,
    ),
]
ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="The model folder that isthmus fit wrote.", show_default=False
    ),
]
OutputOption = Annotated[
    str, typer.Option("--output", "-o", metavar="PATH", help="The file or folder to write.")
]
OptionalOutputOption = Annotated[
    str | None, typer.Option("--output", "-o", metavar="PATH", help="The file to write.")
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace the output if it already exists.")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Where to compute: cpu, cuda, or another device of PyTorch such as mps or cuda:1. "
        "auto picks a CUDA GPU if there is one. A fit of a small dense network stays on the CPU.",
    ),
]
ColorOption = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|FILE",
        help="Labels that color the map of the codes in the report: a column of DATA, or a file "
        "with one label per row. A text column used as labels is not learned, unless --columns "
        "lists it. With isthmus report it needs DATA.",
    ),
]


@dataclass(kw_only=True)
class FitOptions:
    """Options that only `fit` has."""

    n_components: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Numbers in a code, the compressed form of a row. The default is the number of "
            "principal components that hold 90 % of the variance, from 2 to 32.",
        ),
    ] = None
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|PATH",
            help="Validation rows, which choose the best epoch: a share of DATA as in 0.2, or "
            "a file of other rows. The default is 0.1, more for few rows, and at most 5000 rows.",
        ),
    ] = None
    color: ColorOption = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Continue an interrupted fit; the weights are as if it never stopped."
        ),
    ] = False
    no_report: Annotated[
        bool, typer.Option("--no-report", help="Write the model without report.html.")
    ] = False
    force: ForceOption = False


@dataclass(kw_only=True)
class ReadingOptions:
    """How DATA is read."""

    PANEL: ClassVar[str] = "How DATA is read"

    member: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The array to read from a .npz or .safetensors file that holds several, as in "
            "--member x_train. The same as file.npz:x_train.",
        ),
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(
            metavar="N|HxW",
            help="Resize all images to this height x width in pixels, as in 32x48, or 32 for both.",
        ),
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT",
            help="What one row of an array is if its shape leaves this open: table, signal or "
            "image. An array of shape (1000, 28, 28) is 1000 images with --layout image, and "
            "1000 signals of 28 samples and 28 channels with --layout signal. By default it is "
            "images, unless it holds floats and one side is at least four times the other. "
            "series is for a folder or .npz of recordings of different lengths, each of which is "
            "one row.",
        ),
    ] = None
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether the first line of a CSV holds column names. By default it does unless "
            "all its cells are numbers, so use --header for names such as 1990,1991.",
            show_default=False,
        ),
    ] = None
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="More texts that mean a missing value in a CSV, as in --missing '?,-999'. Empty "
            "cells, NA, NaN and null always do.",
        ),
    ] = None
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Whether to read rows from disk while computing instead of loading them into "
            "memory: Parquet, CSV, .npy and image folders. By default only above 256 MiB "
            "(images 1 GiB).",
            show_default=False,
        ),
    ] = None


@dataclass(kw_only=True)
class ColumnOptions:
    """Which columns are learned, as what, and how recordings are cut into rows."""

    PANEL: ClassVar[str] = ReadingOptions.PANEL

    columns: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Use only these columns of a table, as in --columns age,income."
        ),
    ] = None
    drop: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...", help="Use all columns of a table except these, as in --drop id."
        ),
    ] = None
    role: Annotated[
        str | None,
        typer.Option(
            metavar="A=ROLE,...",
            help="The type of columns whose values do not show it, as in "
            "--role zip=categorical,visits=count. Roles: numeric, count, boolean, categorical, "
            "ordinal, datetime, identifier (not learned). '*=count' applies to "
            "all other columns, or to a whole array.",
        ),
    ] = None
    window: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Treat DATA as a recording, with time down and channels across, and cut it into "
            "windows of N samples. Each window is one row; a folder holds several recordings.",
        ),
    ] = None
    hop: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Samples from the start of one window to the start of the next, with --window. "
            "The default is half a window; N equal to the window means no overlap.",
        ),
    ] = None


@dataclass(kw_only=True)
class DetectOptions:
    """Options that only `detect` has."""

    train: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The training rows. The default is DATA itself, outliers included.",
            show_default=False,
        ),
    ] = None
    clean: Annotated[
        bool,
        typer.Option(
            "--clean", help="The training rows contain no outliers, so none of them is trimmed."
        ),
    ] = False
    detector: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Score with this detector, which an earlier --save wrote, instead of fitting one.",
            show_default=False,
        ),
    ] = None
    save: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Save the fitted detector to this folder, for --detector.",
            show_default=False,
        ),
    ] = None
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Also write reason_1 to reason_3: the columns that raise each row's score most.",
        ),
    ] = False
    report: Annotated[
        str | None,
        typer.Option(
            metavar="FILE.html",
            help="Write a page that shows the outliers and why they are outliers.",
            show_default=False,
        ),
    ] = None
    contamination: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Set the threshold so that this share of the training rows are outliers, above 0 "
            "and at most 0.5. By default the threshold comes from --false-alarm-rate.",
        ),
    ] = None
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="The share of ordinary rows, like the training rows, that may be called outliers "
            "by mistake. Default: 0.05.",
        ),
    ] = None
    confidence: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="The probability that the false alarm rate is not exceeded, above 0 and below 1. "
            "Default: 0.9. Few held-out rows may allow less, which is then reported.",
        ),
    ] = None
    n_components: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Numbers in a code of the detector's autoencoders. The default is the number of "
            "principal components that hold 99 % of the variance, at most 128.",
        ),
    ] = None
    n_estimators: Annotated[
        int,
        typer.Option(
            metavar="N", help="Number of autoencoders to fit; their scores are averaged.", min=1
        ),
    ] = 1
    random_state: Annotated[
        int,
        typer.Option(metavar="N", help="Random seed. The same seed gives the same scores.", min=0),
    ] = 0
    force: ForceOption = False


@dataclass(kw_only=True)
class TrainingOptions:
    """What is trained, and how."""

    PANEL: ClassVar[str] = "Network and training"

    kind: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"The network: {registered_names('isthmus.kinds', 'KINDS')}. auto picks "
            "convolutional for signals and for images from 13x13 pixels on, otherwise "
            "multilayer. Settings follow the name, "
            "as in multilayer:hidden=128,32:tied=true.",
        ),
    ] = "auto"
    hidden: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...",
            help="Widths of the encoder's hidden layers, as in 128,32; the decoder mirrors them. "
            "By default they are chosen from the number of features and the code size.",
        ),
    ] = None
    loss: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"The reconstruction loss: {registered_names('isthmus.losses', 'LOSSES')}. auto "
            "picks bernoulli if all values are 0 or 1, mixed for tables with categories, dates or "
            "counts, otherwise squared.",
        ),
    ] = "auto"
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=WEIGHT]",
            help=f"A term added to the loss: {registered_names('isthmus.losses', 'PENALTIES')}, as "
            "in --penalty l1=0.001. May be given several times.",
        ),
    ] = None
    corruption: Annotated[
        str | None,
        typer.Option(
            metavar="NAME[=STRENGTH]",
            help="Train as a denoising autoencoder: disturb the input and reconstruct the clean "
            f"row, with {registered_names('isthmus.corruptions', 'CORRUPTIONS')}. For example "
            "gaussian=0.1 (standard deviation, in scaled values) or masking=0.25 (share of the "
            "values).",
        ),
    ] = None
    preparation: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How features are scaled: global (one scale for all), standard (each to mean 0 "
            "and variance 1), unit (bytes divided by 255), none, size_factors (counts), quantiles "
            "(heavy tails). auto decides from the data.",
        ),
    ] = "auto"
    pretraining: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="How the weights are initialized: "
            f"{registered_names('isthmus.pretraining', 'PRETRAININGS')}. lsuv is random with "
            "each layer's output scaled to variance 1; rbm and autoencoder train layer by layer. "
            "auto picks pca if the network has a linear skip connection, autoencoder for more than "
            "three hidden layers, otherwise random. Settings follow the name, as in rbm:k=3.",
        ),
    ] = "auto"
    optimizer: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help=f"The optimizer: {registered_names('isthmus.optim', 'OPTIMIZERS')}. auto picks "
            "muon for large dense networks without sigmoid activations, from 20,000 rows on and "
            "with large batches, otherwise adamw. Settings follow the name, as in "
            "adamw:lr=0.01:betas=0.8,0.9.",
        ),
    ] = "auto"
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="The highest learning rate of the schedule, above 0. Needs --optimizer.",
        ),
    ] = None
    max_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="The largest number of passes over the training rows. The default is enough for "
            "about 5000 gradients, from 20 to 300 epochs.",
        ),
    ] = None
    batch_size: Annotated[
        str | None,
        typer.Option(
            metavar="N|full",
            help="Rows per training step; full means all rows. By default chosen from the number "
            "of rows.",
        ),
    ] = None
    no_early_stopping: Annotated[
        bool,
        typer.Option(
            "--no-early-stopping",
            help="Train for all --max-epochs. The best epoch is kept either way.",
        ),
    ] = False
    n_init: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Number of fits from different random weights; the one with the lowest error on "
            "the validation rows is kept.",
            min=1,
        ),
    ] = 1
    random_state: Annotated[
        int,
        typer.Option(metavar="N", help="Random seed. The same seed gives the same weights.", min=0),
    ] = 0
    device: DeviceOption = "auto"
    precision: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Floating-point type: float64, float32 or bf16. auto picks float64 for at most "
            "20,000 values, bf16 if it is faster on this machine for a large dense network, and "
            "otherwise float32.",
        ),
    ] = "auto"
    transform_max_iter: Annotated[
        str,
        typer.Option(
            metavar="N|auto",
            help="Optimization steps that refine each code after the encoder; no step raises "
            "the row's loss. 0 uses the encoder's code as it is. auto picks 4 if they apply and "
            "lower the validation error by at least 2 %, and there is no penalty or corruption, "
            "otherwise 0.",
        ),
    ] = "auto"
