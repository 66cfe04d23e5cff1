"""The options of the commands, in groups; what a setting means is told where it is defined."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import typer

from isthmus.cli import docs

PART = "Settings follow a colon: NAME:SETTING=VALUE, and NAME=VALUE sets the first one."

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A .npy, .npz, .csv, .tsv, .parquet, IDX or .safetensors file, or a folder of PNG or "
        "JPEG images; file.npz:NAME chooses one of several arrays.",
        show_default=False,
    ),
]
Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="The folder that fit wrote.", show_default=False)
]
Output = Annotated[str, typer.Option("--output", "-o", metavar="PATH", help="Where to write.")]
MaybeOutput = Annotated[
    str | None, typer.Option("--output", "-o", metavar="PATH", help="Where to write.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the output where it exists.")]
Color = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN|FILE",
        help="Colours the map of the codes: a column of DATA, or a file with one label a row. "
        "A column of text is then left out of what is learned.",
    ),
]


@dataclass(kw_only=True)
class Fit:
    """What only `fit` knows."""

    PANEL: ClassVar[str | None] = None

    components: Annotated[
        int | None, typer.Option(metavar="N", help=docs.setting("n_components"))
    ] = None
    validation: Annotated[
        str | None,
        typer.Option(
            metavar="SHARE|PATH",
            help="Rows held out to choose the best epoch: a share of DATA, from 0 to below 1, or "
            "other data. By default a tenth, more for few rows.",
        ),
    ] = None
    color: Color = None
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a fit that was stopped, to the same weights."),
    ] = False
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.")] = False
    force: Force = False


@dataclass(kw_only=True)
class Reading:
    """How DATA is read."""

    PANEL: ClassVar[str] = "How DATA is read"

    member: Annotated[
        str | None, typer.Option(metavar="NAME", help="The array of a .npz or .safetensors file.")
    ] = None
    resize: Annotated[
        str | None,
        typer.Option(metavar="N|HxW", help="Brings images to one size, height x width."),
    ] = None
    layout: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT",
            help="What a row is, where its shape does not tell: table, signal or image; or series, "
            "for a folder or a .npz of recordings of different lengths, each of which is a row.",
        ),
    ] = None
    header: Annotated[
        bool | None,
        typer.Option(
            "--header/--no-header",
            help="Whether a CSV begins with names. By default it does unless its first line is "
            "all numbers.",
            show_default=False,
        ),
    ] = None
    missing: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...",
            help="What else a CSV writes for a missing value, beside nothing, NA, NaN and null.",
        ),
    ] = None
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--no-stream",
            help="Whether rows stay on disk: of Parquet, CSV, .npy and folders of images. By "
            "default they do where they would take more than 256 MiB (images 1 GiB).",
            show_default=False,
        ),
    ] = None


@dataclass(kw_only=True)
class Choosing:
    """Which columns are learned."""

    PANEL: ClassVar[str] = Reading.PANEL

    columns: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="The columns of a table to keep.")
    ] = None
    drop: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="The columns of a table to leave out.")
    ] = None
    role: Annotated[
        str | None,
        typer.Option(
            metavar="A=ROLE,...",
            help="What columns of a table mean, where that is not what they look like: "
            "numeric, count, boolean, categorical, ordinal, datetime, identifier; *=count is for "
            "all others, and for arrays.",
        ),
    ] = None
    window: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Cuts DATA, time down and channels across, into windows of so many samples; a "
            "folder of files holds several recordings.",
        ),
    ] = None
    step: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Samples from one window's beginning to the next's; by default half a window.",
        ),
    ] = None


@dataclass(kw_only=True)
class Detecting:
    """What only `detect` knows."""

    PANEL: ClassVar[str | None] = None

    train: Annotated[
        str | None,
        typer.Option(
            metavar="PATH", help="Rows to learn from. By default DATA itself.", show_default=False
        ),
    ] = None
    clean: Annotated[
        bool,
        typer.Option(
            "--clean",
            help="The rows to learn from hold nothing odd: none of them is set aside.",
        ),
    ] = False
    detector: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="FOLDER",
            help="A detector that --save wrote, to judge by; nothing is learned then.",
            show_default=False,
        ),
    ] = None
    save: Annotated[
        str | None,
        typer.Option(metavar="FOLDER", help="Where to keep the detector.", show_default=False),
    ] = None
    explain: Annotated[
        bool, typer.Option("--explain", help="Write the columns that make each row odd, in words.")
    ] = False
    report: Annotated[
        str | None,
        typer.Option(
            metavar="PAGE", help="Where to draw a page of them, .html.", show_default=False
        ),
    ] = None
    contamination: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="The share of the rows learned from to call odd, above 0 and at most 0.5. By "
            "default the threshold comes from held-out rows.",
        ),
    ] = None
    false_alarm_rate: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help="The share of rows like those learned from that may be called odd; 0.05 unless "
            "given.",
        ),
    ] = None
    confidence: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="How sure that must be; 0.9 unless given."),
    ] = None
    components: Annotated[
        int | None,
        typer.Option(metavar="N", help="Numbers in a code. By default 99 % of the variance."),
    ] = None
    estimators: Annotated[
        int, typer.Option(metavar="N", help="Autoencoders whose scores are averaged.", min=1)
    ] = 1
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed gives the same scores.", min=0)
    ] = 0
    force: Force = False


@dataclass(kw_only=True)
class Computing:
    """Where the work is done."""

    PANEL: ClassVar[str | None] = None

    device: Annotated[str, typer.Option(metavar="NAME", help=docs.setting("device"))] = "auto"


@dataclass(kw_only=True)
class Training:
    """What is learned, and how."""

    PANEL: ClassVar[str] = "What is learned, and how"

    kind: Annotated[str, typer.Option(metavar="NAME", help=f"{docs.setting('kind')} {PART}")] = (
        "auto"
    )
    hidden: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,...", help=docs.field("kinds/multilayer.py", "Multilayer", "hidden")
        ),
    ] = None
    loss: Annotated[str, typer.Option(metavar="NAME", help=docs.setting("loss"))] = "auto"
    penalty: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHT",
            help=docs.setting("penalties", names=("losses/__init__.py", "PENALTIES"))
            + " May be given several times.",
        ),
    ] = None
    corruption: Annotated[
        str | None,
        typer.Option(
            metavar="NAME=STRENGTH",
            help=docs.setting("corruption", names=("corruptions.py", "CORRUPTIONS")),
        ),
    ] = None
    preparation: Annotated[str, typer.Option(metavar="NAME", help=docs.setting("preparation"))] = (
        "auto"
    )
    pretraining: Annotated[
        str, typer.Option(metavar="NAME", help=f"{docs.setting('pretraining')} {PART}")
    ] = "auto"
    optimizer: Annotated[
        str, typer.Option(metavar="NAME", help=f"{docs.setting('optimizer')} {PART}")
    ] = "auto"
    lr: Annotated[
        float | None,
        typer.Option(
            metavar="RATE",
            help=docs.field("optim/base.py", "OptimizerSpec", "lr") + " Needs --optimizer.",
        ),
    ] = None
    epochs: Annotated[int | None, typer.Option(metavar="N", help=docs.setting("max_epochs"))] = None
    batch_size: Annotated[
        str | None, typer.Option(metavar="N", help=docs.setting("batch_size"))
    ] = None
    no_early_stopping: Annotated[
        bool,
        typer.Option(
            "--no-early-stopping", help="Go on to the last epoch; the best one is kept anyway."
        ),
    ] = False
    n_init: Annotated[int, typer.Option(metavar="N", help=docs.setting("n_init"), min=1)] = 1
    seed: Annotated[
        int, typer.Option(metavar="N", help="The same seed gives the same weights.", min=0)
    ] = 0
    device: Annotated[str, typer.Option(metavar="NAME", help=docs.setting("device"))] = "auto"
    precision: Annotated[str, typer.Option(metavar="NAME", help=docs.setting("precision"))] = "auto"
    transform_max_iter: Annotated[
        str, typer.Option(metavar="N", help=docs.setting("transform_max_iter"))
    ] = "auto"
