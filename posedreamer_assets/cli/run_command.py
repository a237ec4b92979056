"""`posedreamer run`."""

from pathlib import Path

import click

from posedreamer_assets.cli.options import find_home, home_option, profile_option, resolve, set_option, storage_option
from posedreamer_assets.config import ARM_STUDY, BACKGROUND_STUDY, Profile, study_names


@click.command()
@click.option(
    "--poses",
    default=None,
    metavar="PLACE",
    help="A folder, a file or an s3:// URI of BVH, AMASS-style npz or per-image fits, see docs/poses.md. Default: procedural.",
)
@click.option("--poses-per-batch", type=click.IntRange(min=1), default=None, help="Poses of each batch.")
@click.option("--batches", type=click.IntRange(min=1), default=None, help="Batches of the base round.")
@click.option("--align-batches", type=click.IntRange(min=1), default=None, help="Batches that alignment learns from.")
@click.option("--seed", type=int, default=None, help="Seed of everything that is drawn.")
@click.option(
    "--study",
    default=None,
    metavar="NAME|PATH",
    help="What students are trained on: none, pocket, ablation, paper or a YAML file (docs/students.md), the profile's by "
    "default; or learning_to_train, which makes that study alone (docs/scenes.md).",
)
@home_option
@storage_option
@profile_option
@set_option
@click.option("--force", is_flag=True, help="Make everything again, also what is up to date.")
def run(
    poses: str | None,
    poses_per_batch: int | None,
    batches: int | None,
    align_batches: int | None,
    seed: int | None,
    study: str | None,
    home: Path | None,
    storage: str | None,
    profile_name: str | None,
    settings: tuple[str, ...],
    force: bool,
) -> None:
    """Run the whole graph: poses, images, alignment, filter, hard round, dataset and report.

    What is up to date is not made again: change a setting and run again to make only what depends on it.
    """
    shortcuts = {
        "poses.source": str(Path(poses).resolve()) if poses and "://" not in poses else poses,
        "poses.batch_size": poses_per_batch,
        "poses.batches": batches,
        "poses.align_batches": align_batches,
        "seed": seed,
        **study_settings(study),
    }
    profile = resolve(profile_name, settings, shortcuts)

    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.cli.run import run_main_job
    from posedreamer_assets.pipeline.rounds import check_planned
    from posedreamer_assets.report.main_figures import print_summary

    only = stages_of(study, profile)
    if not only:
        check_planned(profile)
    for line in _unread(profile):
        click.echo(line, err=True)
    with TerminalDisplay() as display:
        summary = run_main_job(
            find_home(home, storage),
            profile,
            force=force,
            display=display,
            only=only,
            show=lambda path: display.say(f"first pictures: {path} (control image, render, unaligned generator)"),
        )
    print_summary(summary.figures)
    if summary.left_out:
        click.echo(f"\nno students: {summary.left_out}", err=True)
    click.echo(f"\nreport   {summary.report}\nfigures  {summary.summary_json}")


def study_settings(study: str | None) -> dict[str, object]:
    """What asks for a study: its own section of the profile, or the students' study of that name."""
    if study in study_names():
        return {f"{study}.enabled": True}
    return {"students.study": study}


def stages_of(study: str | None, profile: Profile) -> list[str]:
    """Asset keys of a study that is made alone, and of what it reads of the graph; none, which stands for all, otherwise."""
    from posedreamer_assets.pipeline import STUDIES, rounds_of

    if study is None or study not in study_names():
        return []
    before, after = ([name] if name in profile.studies else [] for name in (BACKGROUND_STUDY, ARM_STUDY))
    parts = [*before, study, *after]
    own = [stage for part in parts for stage in STUDIES[part](rounds_of(profile), tuple(parts))]
    read = (name for stage in own for name in stage.checkpoints)
    return [*dict.fromkeys((*read, *(stage.key for stage in own)))]


def _unread(profile: Profile) -> list[str]:
    """A line for each format in the pose folder that holds motion but is not read: how many files, and how to convert them."""
    if profile.poses.source == "procedural":
        return []
    from posedreamer_assets.poses.folder import Folder
    from posedreamer_assets.poses.sources import unread_lines

    return unread_lines(Folder(profile.poses.source).unread())
