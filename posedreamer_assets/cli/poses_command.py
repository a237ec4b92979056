"""`posedreamer poses`."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from posedreamer_assets.cli.options import profile_option, resolve, set_option

if TYPE_CHECKING:
    from posedreamer_assets.config import Profile
    from posedreamer_assets.poses.folder import Folder
    from posedreamer_assets.poses.inspect import ClipFinding, FileFinding, Totals
    from posedreamer_assets.poses.sheet import Sheets
    from posedreamer_assets.poses.sources import PoseFrames


@click.group()
def poses() -> None:
    """Pose files: what they are, before any run."""


@poses.command()
@click.argument("places", nargs=-1, required=True, metavar="DIR|FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@click.option(
    "--sheet",
    default="pose_sheets",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for contact sheets: five poses of each clip, the body beside the source's own skeleton.",
)
@click.option("--no-sheet", is_flag=True, help="Write no contact sheets.")
@click.option(
    "--sheet-files",
    default=200,
    show_default=True,
    type=click.IntRange(min=1),
    help="Files of each place that are drawn at most, spread evenly.",
)
@profile_option
@set_option
def inspect(
    places: tuple[str, ...],
    as_json: bool,
    sheet: Path,
    no_sheet: bool,
    sheet_files: int,
    profile_name: str | None,
    settings: tuple[str, ...],
) -> None:
    """One line a file: what it is, frames, rate, up axis, stature, ground, soles, notes; or why it is refused.

    Contact sheets show five poses of each. Exit code 1 when nothing could be read.
    """
    from posedreamer_assets.errors import PoseFileError
    from posedreamer_assets.poses.inspect import FileFinding, folder_of, totals_of

    profile = resolve(profile_name, settings, {})
    findings: list[FileFinding] = []
    unread: Counter[str] = Counter()
    pages = _Pages(profile, None if no_sheet else sheet, sheet_files)
    for place in places:
        try:
            folder = folder_of(place)
            unread.update(folder.unread())
            found = _findings(profile, folder, pages, as_json)
        except PoseFileError as error:
            found = [FileFinding("", (), ((error.reason, error.detail),))]
        for finding in found:
            findings.append(replace(finding, path=_named(place, finding.path, alone=len(places) == 1)))
            if not as_json:
                click.echo(line_of(findings[-1]))
    _tell(findings, totals_of(findings), unread, pages.written(), as_json)
    if not any(finding.clips for finding in findings):
        sys.exit(1)


def _named(place: str, path: str, *, alone: bool) -> str:
    """A file's path: below its folder where there is one place alone, else with the place in front."""
    from posedreamer_assets.poses.paths import shown_path

    if not path or (not alone and Path(place).is_file()):
        return shown_path(place)
    return path if alone else f"{shown_path(place).rstrip('/')}/{path}"


class _Pages:
    """Contact sheets of the clips that are looked at; without OpenGL there are none, and one line says so."""

    def __init__(self, profile: "Profile", folder: Path | None, most_files: int) -> None:
        self._profile, self._folder, self._most = profile, folder, most_files
        self._sheets: Sheets | None = None

    def look_at(self, paths: "Sequence[str]") -> "Callable[[str, Sequence[PoseFrames]], None] | None":
        """What draws the clips of some of these files; None where nothing is to be drawn."""
        if self._folder is None:
            return None
        from posedreamer_assets.body.model import load_body
        from posedreamer_assets.poses.sheet import Sheets, as_titled, taken

        self._sheets = self._sheets or Sheets(self._folder, load_body(self._profile.body.model_path))
        chosen = taken(paths, self._most)

        def look(path: str, clips: "Sequence[PoseFrames]") -> None:
            for clip in clips if path in chosen else ():
                self._try(lambda sheets, clip=clip: sheets.add(as_titled(path, clip), clip))

        return look

    def written(self) -> list[str]:
        """The pages, the last one written now."""
        self._try(lambda sheets: sheets.close())
        return [str(page) for page in self._sheets.pages] if self._sheets else []

    def _try(self, draw: "Callable[[Sheets], None]") -> None:
        from posedreamer_assets.errors import RenderError

        if self._sheets is None or self._folder is None:
            return
        try:
            draw(self._sheets)
        except (RenderError, OSError) as error:
            click.echo(f"no more contact sheets: {error}", err=True)
            self._folder = None


def _findings(profile: "Profile", folder: "Folder", pages: _Pages, quiet: bool) -> "Iterable[FileFinding]":
    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.poses.inspect import inspect_files
    from posedreamer_assets.poses.sheet import FRAMES
    from posedreamer_assets.poses.sources import HandSpace

    model = profile.body.model_path
    paths = sorted(folder.pose_paths())
    found = inspect_files(
        folder,
        paths,
        stride_s=profile.poses.frame_stride_s,
        seed=profile.seed,
        body=load_body(model),
        up_axis=profile.poses.up_axis,
        hands=HandSpace.load(model),
        look=pages.look_at(paths),
        sketches=FRAMES,
    )
    with click.progressbar(found, length=len(paths), file=sys.stderr, hidden=quiet or not sys.stderr.isatty()) as bar:
        yield from bar


def line_of(finding: "FileFinding") -> str:
    """One line on a file; what would break the line or speak to the terminal, as names may, is spelt out."""
    many = len(finding.clips) > 1
    told = [f"{clip.name}: {_clip(clip)}" if many else _clip(clip) for clip in finding.clips]
    if not finding.clips and not finding.refused:
        told.append("holds no poses: skipped")
    if finding.refused:
        reason, detail = finding.refused[0]
        more = f" (and {len(finding.refused) - 1} more)" if len(finding.refused) > 1 else ""
        what = "some frames refused" if finding.clips else "refused"
        told.append(f"{what}: {reason}: {detail}{more}")
    return _plain(f"{finding.path}  " + " | ".join(told))


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _clip(clip: "ClipFinding") -> str:
    rate = f"{clip.fps:g} fps" if clip.fps else "no rate"
    body = f"{clip.stature_m:.2f} m" + ("" if clip.has_betas else " (mean shape)")
    soles = "no foot stands" if clip.sole_pitch_deg is None else f"soles {clip.sole_pitch_deg:.0f} deg"
    ground = f"{clip.airborne:.0%} in the air, {soles}"
    notes = f"; {'; '.join(clip.notes)}" if clip.notes else ""
    count = f"{clip.poses} poses of {clip.frames} frame{'s' if clip.frames != 1 else ''}"
    axis = f"{clip.up_axis} up" if clip.up_axis else "in a camera's axes"
    sure = "" if clip.up_axis_sure is None else f" ({clip.up_axis_sure:.0%} sure)"
    return f"{clip.kind}, {count}, {rate}, {axis}{sure}, {body}, {ground}{notes}"


def _tell(
    findings: "Sequence[FileFinding]", totals: "Totals", unread: Counter[str], pages: list[str], as_json: bool
) -> None:
    from posedreamer_assets.poses.sources import unread_lines

    if as_json:
        document = {
            "files": [asdict(finding) for finding in findings],
            "totals": asdict(totals),
            "not_read": dict(unread),
            "sheets": pages,
        }
        click.echo(json.dumps(document, indent=1, allow_nan=False))
        return
    skipped = f", {totals.poseless} without poses" if totals.poseless else ""
    click.echo(f"{len(findings)} files: {sum(totals.read.values())} read{_counts(totals.read)}, ", nl=False)
    refused = f"{sum(totals.refused.values())} refused{_counts(totals.refused)}"
    click.echo(f"{refused}, {totals.partly} read in part{skipped}")
    for line in unread_lines(dict(unread)):
        click.echo(line)
    if pages:
        click.echo(f"contact sheets: {pages[0]}" + (f" to {pages[-1]}" if len(pages) > 1 else ""))


def _counts(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if counts else ""
