"""`isthmus compare`: autoencoders beside PCA and JPEG."""

from isthmus.cli.console import Talk, to_json
from isthmus.cli.io.open_data import open_like, open_rows
from isthmus.cli.io.outputs import free_file, write_text
from isthmus.cli.options import Choosing, Reading, Training
from isthmus.cli.progress import reporter
from isthmus.cli.settings import estimator_settings, reading_options, whole_numbers
from isthmus.data import check_rows
from isthmus.report import compare

SIZES = (2, 8, 32)


def run(
    data: str,
    components: str | None,
    other: str | None,
    output: str | None,
    training: Training,
    reading: Reading,
    choosing: Choosing,
    talk: Talk,
    *,
    force: bool,
) -> None:
    """Fits at each code size and tells the figures."""
    target = None if output is None else free_file(output, force=force, suffix=".json")
    with talk.stage(f"reading {data}"):
        source = open_rows(data, reading_options(reading, choosing), choosing)
        check_rows(source, allow_missing=True)
    if components is None:
        sizes = [size for size in SIZES if size < source.schema.n_features] or [1]
    else:
        sizes = whole_numbers(components, "--components")
    stranger = None if other is None else open_like(source.schema, other, reading, talk)
    settings = estimator_settings(training, source.schema)
    found = compare(source, sizes, other=stranger, verbose=reporter(talk), **settings)
    if target is not None:
        write_text(target, to_json(found.to_json(), indent=1) + "\n", force=force)
        talk.note(f"wrote {target}")
    talk.answer(found.to_json(), found.lines())
