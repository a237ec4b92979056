"""An export on a model hub, as a data set repository: the files, who made each row under which licence, and a tag."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from posedreamer_assets.errors import ExportError
from posedreamer_assets.export.licences import image_licence
from posedreamer_assets.hub import is_written_so
from posedreamer_assets.tables.rows import texts

PROVENANCE = "provenance.parquet"
_KIND: Any = "dataset"


def publish(folder: Path, index: pa.Table, repo: str, tag: str | None = None, *, private: bool = False) -> str:
    """Upload a finished export and tag it; files of a former upload that the export does not have are removed.

    Beside the export's own files, `provenance.parquet` says of each person which generator and adapter made the image and
    what the pose and the image are licensed under.

    Args:
        folder: of the export, its card included.
        index: of the rows that it holds, as `Result.index`.
        repo: `owner/name`; made where there is none.
        tag: a revision that does not exist yet; None sets none.
        private: whether a repository that is made is private.

    Returns:
        the commit.

    Raises:
        ExportError: no such name, no token, a tag that exists, or what the hub answers, in one line.
    """
    from huggingface_hub import HfApi, get_token

    if not is_written_so(repo):
        raise ExportError(f"--repo is {repo!r}; expected OWNER/NAME")
    if get_token() is None:
        raise ExportError("the hub wants a token that may write: `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    with _told(repo):
        api.create_repo(repo, repo_type=_KIND, private=private, exist_ok=True)
        if tag and tag in {ref.name for ref in api.list_repo_refs(repo, repo_type=_KIND).tags}:
            raise ExportError(f"{repo} has a revision {tag!r} already: choose another --tag")
        words = f"{index.num_rows} people, {folder.name}"
        api.upload_file(
            path_or_fileobj=provenance(index),
            path_in_repo=PROVENANCE,
            repo_id=repo,
            repo_type=_KIND,
            commit_message=f"Provenance of {words}",
        )
        done = api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            repo_type=_KIND,
            commit_message=f"PoseDreamer export: {words}",
            delete_patterns=["data/*", "annotations/*", "images/*"],
        )
        if tag:
            api.create_tag(repo, tag=tag, revision=done.oid, repo_type=_KIND)
    return done.oid


def provenance(index: pa.Table) -> bytes:
    """A Parquet file with one row for each person: ids, split, generator, adapter, and licences of pose and image."""
    names = ("sample_id", "image_id", "split", "source", "generator", "adapter")
    columns = {name: index.column(name) for name in names}
    columns["pose_licence"] = index.column("licence")
    columns["image_licence"] = pa.array([image_licence(name) for name in texts(index, "generator")], pa.string())
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file)
    return file.getvalue()


@contextmanager
def _told(repo: str) -> Iterator[None]:
    """What the hub's client raises, as one line."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        raise ExportError(f"{repo}: the hub refuses: {str(error).strip().splitlines()[0]}") from error
    except Exception as error:
        # Without a network, what comes is httpx's or httpx2's, by the hub library's release.
        if not isinstance(error, OSError) and not type(error).__module__.startswith("httpx"):
            raise
        raise ExportError(f"{repo}: the hub cannot be reached ({type(error).__name__})") from error
