"""`posedreamer poses`."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from posedreamer_assets.cli.options import profile_option, resolve, set_option

if TYPE_CHECKING:
    from posedreamer_assets.config import Profile
    from posedreamer_assets.poses.folder import Folder
    from posedreamer_assets.poses.inspect import ClipFinding, FileFinding, Totals


@click.group()
def poses() -> None:
    """Pose files: what they are, before any run."""


@poses.command()
@click.argument("places", nargs=-1, required=True, metavar="DIR|FILE...")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
@profile_option
@set_option
def inspect(places: tuple[str, ...], as_json: bool, profile_name: str | None, settings: tuple[str, ...]) -> None:
    """One line a file: what it is, poses, rate, stature, ground, soles, notes; or why it is refused.

    Exit code 1 when nothing could be read.
    """
    from posedreamer_assets.errors import PoseFileError
    from posedreamer_assets.poses.inspect import folder_of, totals_of

    profile = resolve(profile_name, settings, {})
    findings: list[FileFinding] = []
    unread: Counter[str] = Counter()
    for place in places:
        try:
            folder = folder_of(place)
        except PoseFileError as error:
            if len(places) == 1:
                raise
            click.echo(f"{place}: {error.reason}: {error.detail}", err=True)
            continue
        unread.update(folder.unread())
        for finding in _findings(profile, folder, as_json):
            findings.append(finding)
            if not as_json:
                click.echo(line_of(finding))
    _tell(findings, totals_of(findings), unread, as_json)
    if not any(finding.clips for finding in findings):
        sys.exit(1)


def _findings(profile: "Profile", folder: "Folder", quiet: bool) -> "Iterable[FileFinding]":
    from posedreamer_assets.body.model import load_body
    from posedreamer_assets.poses.inspect import inspect_files
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
    )
    with click.progressbar(found, length=len(paths), file=sys.stderr, hidden=quiet or not sys.stderr.isatty()) as bar:
        yield from bar


def line_of(finding: "FileFinding") -> str:
    """One line on a file."""
    told = [_clip(clip) for clip in finding.clips]
    if finding.refused:
        reason, detail = finding.refused[0]
        more = f" (and {len(finding.refused) - 1} more)" if len(finding.refused) > 1 else ""
        what = "some frames refused" if finding.clips else "refused"
        told.append(f"{what}: {reason}: {detail}{more}")
    return f"{finding.path}  " + " | ".join(told)


def _clip(clip: "ClipFinding") -> str:
    rate = f"{clip.fps:g} fps" if clip.fps else "no rate"
    body = f"{clip.stature_m:.2f} m" + ("" if clip.has_betas else " (mean shape)")
    soles = "no foot stands" if clip.sole_pitch_deg is None else f"soles {clip.sole_pitch_deg:.0f} deg"
    ground = f"{clip.airborne:.0%} in the air, {soles}"
    notes = f"; {'; '.join(clip.notes)}" if clip.notes else ""
    return f"{clip.kind}, {clip.poses} poses, {rate}, {body}, {ground}{notes}"


def _tell(findings: "Sequence[FileFinding]", totals: "Totals", unread: Counter[str], as_json: bool) -> None:
    from posedreamer_assets.poses.sources import unread_lines

    if as_json:
        document = {"files": [asdict(f) for f in findings], "totals": asdict(totals), "not_read": dict(unread)}
        click.echo(json.dumps(document, indent=1, allow_nan=False))
        return
    click.echo(f"{len(findings)} files: {sum(totals.read.values())} read{_counts(totals.read)}, ", nl=False)
    click.echo(f"{sum(totals.refused.values())} refused{_counts(totals.refused)}, {totals.partly} read in part")
    for line in unread_lines(dict(unread)):
        click.echo(line)


def _counts(counts: dict[str, int]) -> str:
    return f" ({', '.join(f'{count} {name}' for name, count in counts.items())})" if counts else ""
