"""Progress bars in a terminal; plain lines where there is none."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        """Finished units a second, over the stage so far."""
        elapsed = task.elapsed or 0.0
        return Text(f"{task.completed / elapsed:5.1f}/s" if elapsed > 0 and task.completed else "")


class TerminalDisplay:
    """One bar for the stage that is running; one line for each that has ended."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = None
        self._done = 0
        self._total = 0
        self._started = 0.0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, stage: str, total: int) -> None:
        """A stage starts; `total` is an estimate and grows when exceeded."""
        self._done, self._total, self._started = 0, total, time.perf_counter()
        if total:
            self._task = self._progress.add_task(stage, total=total, note="")

    def advance(self, n: int, note: str = "") -> None:
        """n more units are done."""
        if self._task is None:
            return
        self._done += n
        self._total = max(self._total, self._done)
        self._progress.update(self._task, completed=self._done, total=self._total, note=note)

    def end(self, stage: str, outcome: str) -> None:
        """The stage has ended."""
        if self._task is not None:
            self._progress.remove_task(self._task)
            self._task = None
        seconds = time.perf_counter() - self._started
        spent = f"{seconds:7.1f} s" if outcome != "up to date" else " " * 9
        self._console.print(f"{stage:<24} {spent}  {outcome}", highlight=False)

    def say(self, line: str) -> None:
        """Print a line above the bar, whole, so that a path in it can be copied."""
        self._console.print(line, highlight=False, soft_wrap=True)
