"""The command line. Each command has a file of its own, which is read when the command is asked for, so that `--help` answers
at once."""

import importlib
import os
from typing import Any

import click

from posedreamer_assets import __version__
from posedreamer_assets.cli.endings import Signals, in_one_line, is_interrupt
from posedreamer_assets.cli.options import HOME
from posedreamer_assets.cores import sleep_when_idle
from posedreamer_assets.errors import PoseDreamerError

COMMANDS = {
    "run": (
        "run_command",
        "run",
        "Run the whole graph: poses, images, alignment, filter, hard rounds, dataset and report.",
    ),
    "dev": ("dev_command", "dev", "Dagster's UI on a home, with its pages beside it."),
    "status": (
        "status_command",
        "status",
        "Each asset: partitions done, stale, missing and failed, rows, size, checks.",
    ),
    "poses": ("poses_command", "poses", "What pose files are, before any run: poses inspect DIR."),
    "doctor": ("doctor_command", "doctor", "Say what is there, what is missing and how to get it."),
    "view": ("view_command", "view", "Write a gallery of a table, or of one partition of it, as one HTML file."),
    "export": ("export_command", "export_command", "Write the dataset in a format that others train from."),
    "publish": ("publish_command", "publish_command", "Export the dataset and upload it to a model hub."),
    "students": (
        "students_command",
        "students",
        "What the data is worth: recipes, test images, scores of other networks.",
    ),
    "checks": ("checks_command", "checks", "Data checks: one YAML file for each table in dbt_like_checks/."),
    "storage": ("storage_command", "storage", "Tables and checkpoints: upkeep, and reading everything back."),
    "train-control": (
        "train_control_command",
        "train_control",
        "Train a control LoRA (FLUX) or a ControlNet (Z-Image).",
    ),
    "train-pocket": ("train_pocket_command", "train_pocket", "Train the pocket models from renders."),
}
"""By name: module, function, and one line of help."""


class _Commands(click.Group):
    """Finds commands by name, and prints errors of this project as one line, without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, function, _ = COMMANDS[cmd_name]
        return getattr(importlib.import_module(f"posedreamer_assets.cli.{module}"), function)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, _, about) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        signals = Signals()
        try:
            return super().invoke(ctx)
        except PoseDreamerError as error:
            click.echo(f"posedreamer: {type(error).__name__}: {error}", err=True)
            ctx.exit(1)
        except (click.exceptions.Exit, click.ClickException):
            raise
        except BaseException as error:
            if is_interrupt(error):
                click.echo("posedreamer: interrupted; run again to go on", err=True)
                ctx.exit(signals.exit_code)
            line = in_one_line(error, ctx.meta.get(HOME, ""))
            if line is None:
                raise
            click.echo(f"posedreamer: {line}", err=True)
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


def _quiet_libraries() -> None:
    """Keep libraries' own progress bars and notices out of ours; they read these when they are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("LANCE_LOG", "error")
    sleep_when_idle()
