"""`isthmus compare`: autoencoders compared with PCA and JPEG."""

from isthmus.cli.console import Console, to_json
from isthmus.cli.io.open_data import open_training_rows, open_with_schema
from isthmus.cli.io.outputs import output_file, write_text
from isthmus.cli.options import ColumnOptions, ReadingOptions, TrainingOptions
from isthmus.cli.progress import fit_reporter
from isthmus.cli.settings import estimator_arguments, parse_integers
from isthmus.data.validate import check_rows
from isthmus.report import compare

SIZES = (2, 8, 32)


def run(
    data: str,
    n_components: str | None,
    other: str | None,
    output: str | None,
    training: TrainingOptions,
    reading: ReadingOptions,
    column_options: ColumnOptions,
    console: Console,
    *,
    force: bool,
) -> None:
    """Fits and tests at each code size, and prints the figures."""
    target = None if output is None else output_file(output, force=force, suffix=".json")
    with console.stage(f"reading {data}"):
        source = open_training_rows(data, reading, column_options)
        check_rows(source, allow_missing=True)
    if n_components is None:
        sizes = [size for size in SIZES if size < source.schema.n_features] or [1]
    else:
        sizes = parse_integers(n_components, "--n-components")
    other_source = (
        None if other is None else open_with_schema(source.schema, other, reading, console)
    )
    settings = estimator_arguments(training, source.schema)
    comparison = compare(
        source, sizes, other=other_source, verbose=fit_reporter(console), **settings
    )
    if target is not None:
        write_text(target, to_json(comparison.to_json(), indent=1) + "\n", force=force)
        console.note(f"wrote {target}")
    console.result(comparison.to_json(), comparison.lines())
