"""The progress of a fit on the command line."""

from isthmus.cli.console import Console
from isthmus.training.reporters import ProgressBar, Reporter, SilentReporter


class Progress(ProgressBar):
    """A progress bar, and messages that are printed once even if a warning repeats them."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.notes = console

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Prints the number of rows and epochs; the bar itself appears after two seconds."""
        self.notes.note(f"training on {rows} rows for at most {epochs} epochs")
        super().start(rows=rows, epochs=epochs, first_epoch=first_epoch)

    def message(self, text: str) -> None:
        """Prints one line, above the bar if it is shown."""
        if self.bar is None:
            self.notes.note(text)
        elif text not in self.notes.printed:
            self.bar.console.print(text, markup=False, highlight=False)
        self.notes.printed.update((text, f"note: {text}"))


def fit_reporter(console: Console) -> Reporter:
    """A reporter of training progress, silent with --quiet."""
    return SilentReporter() if console.quiet else Progress(console)
