"""Executes assets one by one on a home's Dagster instance, in this process, so that everything is in the UI too."""

from collections.abc import Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

from posedreamer_assets.config import Profile
from posedreamer_assets.defs.build import build
from posedreamer_assets.defs.deployment import Deployment
from posedreamer_assets.defs.local.killed_runs import PROCESS_TAG, report_killed_runs, this_process
from posedreamer_assets.errors import CheckError, ConfigError
from posedreamer_assets.pipeline import Graph, Stage, graph_of
from posedreamer_assets.progress import Display, watching
from posedreamer_assets.runtime.home import Home

# Dagster would send stdout and stderr, and with them the progress bars, to files.
_NO_CAPTURE = {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}


class Runner:
    """Executes assets of a home's graph, each in a run of its own."""

    def __init__(self, home: Home, graph: Graph | None = None) -> None:
        self.home = home
        self.graph = graph or graph_of(home.profile())

    def __enter__(self) -> Self:
        import dagster as dg
        from dagster._core.instance.ref import InstanceRef

        reference = InstanceRef.from_dir(str(self.home.dagster), overrides={"compute_logs": _NO_CAPTURE})
        with ExitStack() as opened:
            self.instance = opened.enter_context(dg.DagsterInstance.from_ref(reference))
            report_killed_runs(self.instance)
            self._job = build(Deployment(), self.graph).resolve_implicit_global_asset_job_def()
            self._opened = opened.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def execute(self, stage: Stage, key: str | None, *, force: bool = True) -> None:
        """Materialise one asset at one partition, with its checks.

        Args:
            stage: of the graph.
            key: partition key; None for an unpartitioned stage.
            force: make it even if its inputs have not changed; else what has not changed is only checked.

        Raises:
            PoseDreamerError: the asset's own error, or CheckError when a blocking check failed.
        """
        import dagster as dg
        from dagster._core.errors import DagsterAssetCheckFailedError

        from posedreamer_assets.defs.partitions import register

        if key is not None:
            register(self.instance, self.graph, [key])
        try:
            self.execute_asset(stage.key, key, force=force)
        except DagsterAssetCheckFailedError as error:
            place = f"{stage.key}[{key}]" if key else stage.key
            raise CheckError(f"{place}: {error}") from error
        except dg.Failure as error:  # refused: the text says all
            raise ConfigError(error.description or str(error)) from None

    def execute_asset(
        self, asset: str, key: str | None, ops: dict[str, Any] | None = None, *, force: bool = True
    ) -> None:
        """Materialise an asset by its key, with configuration of its op."""
        import dagster as dg

        from posedreamer_assets.defs.assets import FORCE_TAG
        from posedreamer_assets.defs.local.fast_sqlite import unhurried_sqlite

        with unhurried_sqlite():
            self._job.execute_in_process(
                instance=self.instance,
                partition_key=key,
                asset_selection=[dg.AssetKey(asset.split("/"))],
                tags={**({FORCE_TAG: "true"} if force else {}), PROCESS_TAG: this_process()},
                run_config={**run_config(self.home), "ops": ops or {}},
            )


def train_pocket_models(
    home: Home, profile: Profile, parts: Sequence[str], config: dict[str, Any], display: Display
) -> None:
    """Materialise the pocket models' assets, in order; `config` is that of `defs.pocket_models.PocketConfig`."""
    home.prepare(profile)
    home.try_storage()
    units = {"scenes": 2 * int(config["scenes"]), "generator": 2, "detectors": 4, "pose2d": 2}
    with Runner(home) as runner:
        for part in units:
            if parts and part not in parts:
                continue
            name = f"pocket/{part}"
            display.begin(name, units[part])
            with watching(display):
                runner.execute_asset(name, None, {f"pocket__{part}": {"config": config}})
            display.end(name, "made")


def run_config(home: Home) -> dict[str, Any]:
    """Binds the assets to a home, so that a run can be launched again from the UI as it was."""
    return {
        "resources": {
            "profile": {"config": {"home": str(home.path)}},
            "store": {"config": {"root": home.storage_root, "cache": str(home.cache)}},
        },
        "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
    }
