"""The command line. Commands import what they compute with when they run, so that `--help` answers at once."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from posedreamer_assets import __version__
from posedreamer_assets.errors import CheckError, ConfigError, PoseDreamerError

if TYPE_CHECKING:
    from posedreamer_assets.config import Profile
    from posedreamer_assets.runtime.home import Home

_HOME_HELP = "Folder of tables, Dagster's event log and reports. Default: $POSEDREAMER_HOME, else ./posedreamer_home."


class _Commands(click.Group):
    """Prints errors of this project as one line, without a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except PoseDreamerError as error:
            click.echo(f"posedreamer: {type(error).__name__}: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="posedreamer")
def cli() -> None:
    """Images of people with exact SMPL-X labels: poses first, pictures second.

    \b
    posedreamer run                  the whole graph, on procedural poses
    posedreamer run --poses DIR      the same on your BVH, AMASS-style npz or fits
    posedreamer doctor               what is there and what is missing
    """
    os.environ.setdefault("PYOPENGL_PLATFORM", "egl")
    _quiet_libraries()


def main() -> None:
    """Entry point of the `posedreamer` command."""
    cli(prog_name="posedreamer")


_home = click.option("--home", type=click.Path(file_okay=False, path_type=Path), default=None, help=_HOME_HELP)
_storage = click.option(
    "--storage",
    default=None,
    metavar="DIR|URI",
    help="Where tables and checkpoints are kept, for example s3://bucket/prefix (credentials and endpoint from AWS_... "
    "variables); remembered in the home. Default: $POSEDREAMER_STORAGE, else the remembered place, else <home>/storage.",
)
_profile = click.option(
    "--profile",
    "profile_name",
    default=None,
    metavar="NAME|PATH",
    help="A shipped profile or a YAML file. Default: pocket.",
)
_set = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any setting of the profile, for example --set curation.min_oks=0.7. Can be given many times.",
)


@cli.command()
@click.option(
    "--poses",
    default=None,
    metavar="DIR",
    help="A folder or s3:// URI of BVH files, AMASS-style npz (SMPL-X or SMPL-H) or per-image fits. Default: procedural poses.",
)
@click.option("--poses-per-batch", type=click.IntRange(min=1), default=None, help="Poses of each batch.")
@click.option("--batches", type=click.IntRange(min=1), default=None, help="Batches of the base round.")
@click.option("--align-batches", type=click.IntRange(min=1), default=None, help="Batches that alignment learns from.")
@click.option("--seed", type=int, default=None, help="Seed of everything that is drawn.")
@_home
@_storage
@_profile
@_set
@click.option("--force", is_flag=True, help="Make everything again, also what is up to date.")
def run(
    poses: str | None,
    poses_per_batch: int | None,
    batches: int | None,
    align_batches: int | None,
    seed: int | None,
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
    }
    profile = _resolve(profile_name, settings, shortcuts)

    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.defs.local.runner import run_main_job
    from posedreamer_assets.report.run_report import print_summary

    with TerminalDisplay() as display:
        summary = run_main_job(_find_home(home, storage), profile, force=force, display=display)
    print_summary(summary.figures)
    click.echo(f"\nreport   {summary.report}\nfigures  {summary.summary_json}")


@cli.command()
@_home
@_profile
@_set
def doctor(home: Path | None, profile_name: str | None, settings: tuple[str, ...]) -> None:
    """Say what is there, what is missing and how to get it. Exit code 1 when something needed is missing."""
    from posedreamer_assets.cli.doctor import examine

    place = _find_home(home)
    profile = place.profile() if profile_name is None and not settings else _resolve(profile_name, settings, {})
    findings = examine(place, profile)
    for finding in findings:
        click.echo(f"{finding.mark:<8} {finding.name:<18} {finding.detail}")
        if not finding.ok and finding.remedy:
            click.echo(f"{'':<8} {'':<18} -> {finding.remedy}")
    if any(finding.required and not finding.ok for finding in findings):
        sys.exit(1)


@cli.command()
@click.argument("table")
@click.argument("partition", required=False)
@click.option("-o", "--out", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Default: TABLE.html")
@click.option("--limit", type=click.IntRange(min=1), default=96, show_default=True, help="At most this many samples.")
@click.option("--hardest", is_flag=True, help="Those with the lowest predicted or measured OKS, lowest first.")
@_home
def view(table: str, partition: str | None, out: Path | None, limit: int, hardest: bool, home: Path | None) -> None:
    """Write a gallery of a table, or of one partition of it, as one HTML file.

    Shows what the tables know of each sample: control map, image, keypoints and mesh overlay, scores, verdict. The page
    filters by verdict and OKS, sorts by any figure, and has three views: cards, contact sheet, kept beside rejected.
    TABLE is one of those that `posedreamer status` lists.
    """
    from posedreamer_assets.report.samples import write_table_gallery

    path = out or Path(f"{table}{'-' + partition if partition else ''}.html")
    count = write_table_gallery(_find_home(home), table, partition, path, limit=limit, hardest=hardest)
    click.echo(f"{count} samples  {path}")


@cli.command("export")
@click.option(
    "--format", "form", required=True, metavar="NAME", help="humandata, hmr2, bedlam, coco, parquet or folder."
)
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write.")
@click.option("--split", "splits", multiple=True, help="Only this split; can be given many times. Default: all.")
@click.option(
    "--shard-size", type=click.IntRange(min=1), default=None, help="Samples of a shard. Default: the format's."
)
@click.option("--version", "version", default=None, help="A version or tag of the table. Default: the newest.")
@click.option(
    "--pickle/--no-pickle",
    "pickles",
    default=True,
    show_default=True,
    help="humandata and hmr2: write the pickles that their own readers insist on.",
)
@click.option("--keypoints-only", is_flag=True, help="hmr2 without SMPL files: keypoints alone, see docs/exports.md.")
@click.option("--mean-hands", is_flag=True, help="Hands relative to the model's mean hand, not to the flat hand.")
@click.option("--smpl", type=click.Path(dir_okay=False, path_type=Path), default=None, help="SMPL model, npz.")
@click.option(
    "--smpl-transfer", type=click.Path(dir_okay=False, path_type=Path), default=None, help="SMPL-X to SMPL, npz."
)
@click.option("--verify", is_flag=True, help="Only compare a finished export with its checksums.")
@_home
def export_command(
    form: str,
    out: Path,
    splits: tuple[str, ...],
    shard_size: int | None,
    version: str | None,
    pickles: bool,
    keypoints_only: bool,
    mean_hands: bool,
    smpl: Path | None,
    smpl_transfer: Path | None,
    verify: bool,
    home: Path | None,
) -> None:
    """Write the dataset in a format that others train from. Run it again and it goes on where it stopped.

    docs/exports.md says what the conventions of each format are, and what it cannot hold.
    """
    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.defs.local.runner import open_store
    from posedreamer_assets.errors import ExportError
    from posedreamer_assets.export.formats import FORMATS
    from posedreamer_assets.export.records import damaged_files
    from posedreamer_assets.export.run import Request, export_dataset
    from posedreamer_assets.export.shards import Options
    from posedreamer_assets.progress import watching

    if verify:
        wrong = damaged_files(out)
        for name, what in wrong.items():
            click.echo(f"{what:<8} {name}")
        if wrong:
            raise ExportError(f"{len(wrong)} files are not what was written; export again to write them")
        click.echo(f"ok  {out}")
        return
    if (smpl is None) != (smpl_transfer is None):
        raise ConfigError("--smpl and --smpl-transfer go together")
    files = (smpl, smpl_transfer) if smpl and smpl_transfer else None
    place = _find_home(home)
    chosen = int(version) if version and version.isdigit() else version
    request = Request(form, out, chosen, mean_hands, files)
    store = open_store(place)
    with TerminalDisplay() as display, watching(display):
        display.begin(f"export {form}", sum(info.rows for info in store.partitions("dataset").values()))
        options = Options(shard_size, splits, pickles, keypoints_only)
        result = export_dataset(store, place.profile(), request, options)
    click.echo(f"{result.samples} samples, {result.written} shards written, {result.complete} complete before  {out}")
    for note in FORMATS[form].notes(options, result.subject):
        click.echo(f"{form}: {note.replace('**', '').replace('`', '')}")


@cli.command("train-pocket")
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(["scenes", "generator", "detectors"]),
    help="Only this part; can be given many times. Default: all, in order.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=None, help="Default: <home>/pocket")
@click.option("--scenes", type=click.IntRange(min=8), default=12_288, show_default=True, help="Renders of each set.")
@click.option("--generator-minutes", type=float, default=300.0, show_default=True, help="Time to train the generator.")
@click.option("--detector-minutes", type=float, default=25.0, show_default=True, help="Time to train each detector.")
@click.option("--threads", type=click.IntRange(min=1), default=2, show_default=True, help="CPU threads of torch.")
@click.option("--ship", is_flag=True, help="Then put the trained models in the place of the shipped ones.")
@_home
@_profile
@_set
def train_pocket(
    parts: tuple[str, ...],
    out: Path | None,
    scenes: int,
    generator_minutes: float,
    detector_minutes: float,
    threads: int,
    ship: bool,
    home: Path | None,
    profile_name: str | None,
    settings: tuple[str, ...],
) -> None:
    """Train the pocket models from renders: generator, two keypoint detectors, person counter.

    Goes on where it stopped. Trained folders take the shipped ones' places when they are named in the profile
    (generator.model_path, ranker.path, judge.path), or with --ship.
    """
    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.defs.local.runner import train_pocket_models

    place = _find_home(home)
    folder = (out or place.path / "pocket").resolve()
    config = {
        "folder": str(folder),
        "scenes": scenes,
        "generator_minutes": generator_minutes,
        "detector_minutes": detector_minutes,
        "threads": threads,
    }
    with TerminalDisplay() as display:
        train_pocket_models(place, _resolve(profile_name, settings, {}), parts, config, display)
    click.echo(str(folder))
    if ship:
        from posedreamer_assets.config import WEIGHTS_DIR
        from posedreamer_assets.pocket.recipe import ship as ship_models

        for name, megabytes in ship_models(folder, WEIGHTS_DIR).items():
            click.echo(f"{name:<10} {megabytes:6.1f} MB  {WEIGHTS_DIR / name}")


@cli.group()
def checks() -> None:
    """Data checks: one YAML file for each asset in dbt_like_checks/."""


@checks.command("validate")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), default=None, help="Of check files.")
def checks_validate(folder: Path | None) -> None:
    """Read all check files; an unknown test, table or column is an error, named with file and line."""
    from posedreamer_assets.checks import load_checks, mistakes

    if found := mistakes(folder):
        for line in found:
            click.echo(line, err=True)
        raise CheckError(f"{len(found)} check files cannot be used")
    loaded = load_checks(folder)
    click.echo(f"{sum(len(c.checks) for c in loaded.values())} checks of {len(loaded)} tables are well-formed")


@checks.command("list")
@click.argument("table", required=False)
@click.option("--kinds", is_flag=True, help="List the kinds of tests instead, with their arguments.")
def checks_list(table: str | None, kinds: bool) -> None:
    """List all checks, or those of one table, with severity and meaning."""
    from posedreamer_assets.checks import KINDS, load_checks, load_table_checks

    if kinds:
        for name, kind in KINDS.items():
            words = ", ".join(f"{n.rstrip('!')}{'' if n.endswith('!') else '?'}" for n in kind.args)
            click.echo(f"{name:<28} {'table ' if kind.accepts is None else 'column'}  {words}")
        return
    for loaded in [load_table_checks(table)] if table else load_checks().values():
        for check in loaded.checks:
            click.echo(f"{loaded.table:<24} {check.name:<36} {check.severity:<6} {check.description}")


@checks.command("run")
@click.argument("table", required=False)
@click.argument("partition", required=False)
@click.option("--docs/--no-docs", default=True, show_default=True, help="Write the results into <home>/checks too.")
@_home
def checks_run(table: str | None, partition: str | None, docs: bool, home: Path | None) -> None:
    """Run checks on what is stored. Exit code 1 when one of severity error fails."""
    from posedreamer_assets.checks.pages import record, write_site
    from posedreamer_assets.defs.local.runner import open_store
    from posedreamer_assets.runtime.checking import check_store

    place = _find_home(home)
    store = open_store(place)
    run = bad = 0
    tables: set[str] = set()
    for name, key, outcomes in check_store(store, table, partition, place.profile()):
        failed = [outcome for outcome in outcomes if not outcome.passed]
        run += len(outcomes)
        bad += sum(outcome.blocking for outcome in failed)
        click.echo(f"{'FAILED' if failed else 'ok':<8} {name}{f'[{key}]' if key else ''}: {len(outcomes)} checks")
        for outcome in failed:
            ids = f" ({', '.join(outcome.failing_ids[:3])})" if outcome.failing_ids else ""
            click.echo(f"{'':<8} {outcome.severity:<6} {outcome.name}: {outcome.observed}{ids}")
        if docs:
            record(place, store, name, key, outcomes, pages=False)
            tables.add(name)
    if tables:
        click.echo(f"pages    {write_site(place, sorted(tables))}")
    if bad:
        raise CheckError(f"{bad} of {run} checks failed")


@cli.command()
@click.option("--prepare", is_flag=True, help="Also make the home's folders and settings where they are missing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document in place of a table.")
@_home
def status(prepare: bool, as_json: bool, home: Path | None) -> None:
    """Each asset: partitions done, stale, missing and failed, rows, size, and the checks' last results."""
    import dataclasses
    import json

    from posedreamer_assets.cli.status import as_lines, look
    from posedreamer_assets.defs.local.runner import open_store

    place = _find_home(home)
    if prepare:
        place.prepare()
    found = look(place, open_store(place))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(stage) for stage in found], indent=2))
        return
    profile = place.profile()
    click.echo(f"{place.path}, profile {profile.name}, seed {profile.seed}")
    click.echo("\n".join(as_lines(found)))


@cli.group()
def storage() -> None:
    """Tables and checkpoints: upkeep, and reading everything back."""


_tables = click.option("--table", "tables", multiple=True, help="Only this table; can be given many times.")


@storage.command("maintain")
@_tables
@click.option(
    "--keep-days",
    type=click.FloatRange(min=1 / 24),
    default=7.0,
    show_default=True,
    help="Versions of the last days stay, and tagged ones for ever. Longer than any writer or reader takes.",
)
@click.option(
    "--rows-per-file", type=click.IntRange(min=1), default=65_536, show_default=True, help="Merge up to this."
)
@click.option(
    "--keep-checkpoints",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Superseded checkpoints of each name that stay besides those that a release, a tag or stored images name.",
)
@click.option(
    "--keep-releases", type=click.IntRange(min=0), help="The same of datasets; all stay unless this is given."
)
@_home
def storage_maintain(
    tables: tuple[str, ...],
    keep_days: float,
    rows_per_file: int,
    keep_checkpoints: int,
    keep_releases: int | None,
    home: Path | None,
) -> None:
    """Merge small files along partitions, index, delete old versions and checkpoints. Safe while the graph is running.

    Worthwhile after every few hundred partitions; `make dev` also does it by the schedule storage_upkeep.
    """
    from datetime import timedelta

    from posedreamer_assets.cli.display import TerminalDisplay
    from posedreamer_assets.defs.local.runner import maintain_tables, open_store
    from posedreamer_assets.storage import Plan

    plan = Plan(
        rows=rows_per_file, keep=timedelta(days=keep_days), checkpoints=keep_checkpoints, releases=keep_releases
    )
    with TerminalDisplay() as display:
        done = maintain_tables(_find_home(home), tables, plan, display)
    freed = sum(upkeep.bytes_freed for upkeep in done)
    before, after = (sum(getattr(u, name) for u in done) for name in ("files_before", "files_after"))
    click.echo(
        f"{len(done)} tables: {before} files are now {after}; {sum(u.versions_removed for u in done)} versions removed, "
        f"{freed / 1e6:.1f} MB freed, {sum(u.postponed for u in done)} merges left for the next time"
    )
    if not tables:
        removed = open_store(_find_home(home)).remove_superseded(plan)
        click.echo(
            f"checkpoints: {len(removed.folders)} superseded ones removed, {len(removed.tags)} tags, {removed.leftovers} "
            f"leftovers of killed writers, {removed.bytes_freed / 1e6:.1f} MB freed"
        )
        for place in removed.folders:
            click.echo(f"{'':<8} {place}")


@storage.command("verify")
@_tables
@click.option("--drop", is_flag=True, help="Take damaged files out; what was in them is missing and can be made again.")
@_home
def storage_verify(tables: tuple[str, ...], drop: bool, home: Path | None) -> None:
    """Read every row and compare it with the digest it was written with. Exit code 1 when one differs."""
    from posedreamer_assets.defs.local.runner import stored_tables
    from posedreamer_assets.errors import StorageError

    damaged = 0
    for store, table in stored_tables(_find_home(home), tables):
        found = store.drop_damaged(table) if drop else list(store.verify(table))
        damaged += len(found)
        click.echo(f"{'ok' if not found else 'DAMAGED':<8} {table}, version {store.version(table)}")
        for damage in found:
            click.echo(f"{'':<8} {' or '.join(damage.files)}: {damage.what}")
    if damaged:
        done = "taken out; run again to make what was in them" if drop else "see above; --drop takes them out"
        raise StorageError(f"{damaged} damaged places, {done}")


def _find_home(given: Path | None, storage: str | None = None) -> "Home":
    """The home; `storage` becomes the place of its tables."""
    from posedreamer_assets.runtime.home import Home

    home = Home.find(given)
    if storage is not None:
        home.keep_in(storage)
    return home


def _resolve(name: str | None, settings: tuple[str, ...], shortcuts: dict[str, Any]) -> "Profile":
    """The profile of a command: `--set` over shortcuts over the file.

    Raises:
        ConfigError: a `--set` without "=", or what `load_profile` raises.
    """
    from posedreamer_assets.config import load_profile

    overrides = {key: value for key, value in shortcuts.items() if value is not None}
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {text}: expected KEY=VALUE")
        try:
            overrides[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {text}: the value is not valid YAML") from error
    return load_profile(name or "pocket", overrides)


def _quiet_libraries() -> None:
    """Keep libraries' own progress bars and notices out of ours; they read these when they are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
