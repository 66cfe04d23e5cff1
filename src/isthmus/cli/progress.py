"""How a fit tells what it is doing on the command line."""

from isthmus.cli.console import Talk
from isthmus.training.reporters import Bar, Reporter, Silent


class Progress(Bar):
    """A bar, and messages that are said once even where a warning repeats them."""

    def __init__(self, talk: Talk) -> None:
        super().__init__()
        self.talk = talk

    def start(self, *, rows: int, epochs: int, first_epoch: int) -> None:
        """Says what begins; the bar itself appears after two seconds."""
        self.talk.note(f"training on {rows} rows for at most {epochs} epochs")
        super().start(rows=rows, epochs=epochs, first_epoch=first_epoch)

    def message(self, text: str) -> None:
        """Writes one line, above the bar where there is one."""
        if self.bar is None:
            self.talk.note(text)
        elif text not in self.talk.said:
            self.bar.console.print(text, markup=False, highlight=False)
        self.talk.said.update((text, f"note: {text}"))


def reporter(talk: Talk) -> Reporter:
    """A bar, or nothing with --quiet."""
    return Silent() if talk.quiet else Progress(talk)
