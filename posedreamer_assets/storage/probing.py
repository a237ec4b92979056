"""Whether an object store keeps what concurrent writers commit.

Every commit is a put of a manifest under a name that must not be there yet (`If-None-Match: *`). A store that ignores the
condition answers both of two writers with success, and the rows of the first are gone without a word. Writers do not meet
in a try by one process, so the condition itself is tried.
"""

import uuid
from typing import Any

from posedreamer_assets.errors import StorageError
from posedreamer_assets.storage.failures import first_line

_NAMES = {  # of Lance's options, with or without `aws_`, and of boto3's
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
    "region": "region_name",
    "endpoint": "endpoint_url",
}


def probe(root: str, options: dict[str, str] | None) -> None:
    """Put one small object twice under the condition that it is not there, and remove it.

    Only S3 and what speaks its protocol is tried: Google's and Azure's own protocols always have conditions.

    Raises:
        StorageError: the second put was not refused, or the store cannot be written.
    """
    scheme, _, rest = root.partition("://")
    if scheme != "s3":
        return
    from botocore.exceptions import BotoCoreError, ClientError

    bucket, _, prefix = rest.partition("/")
    where = {"Bucket": bucket, "Key": f"{prefix}/posedreamer_probe_{uuid.uuid4().hex}".lstrip("/")}
    client = _client(options)
    try:
        client.put_object(**where, Body=b"first", IfNoneMatch="*")
        refused = _refuses(client, where)
        client.delete_object(**where)
    except (BotoCoreError, ClientError) as error:
        raise StorageError(
            f"{root} could not be written under the condition that nothing is there yet: {first_line(error)}"
        ) from error
    if not refused:
        raise StorageError(
            f"{root}: this object store ignores conditional puts (If-None-Match), so that commits of two writers would "
            "lose rows without a word. Use a store that has them (Amazon S3, MinIO, R2), for Google's gs:// instead of its "
            "S3 endpoint, or a folder"
        )


def _client(options: dict[str, str] | None) -> Any:
    try:
        import boto3
    except ImportError as error:
        raise StorageError("an object store is tried with the package boto3, which is not installed") from error
    from botocore.config import Config

    given = {name.removeprefix("aws_"): value for name, value in (options or {}).items()}
    named = {to: given[name] for name, to in _NAMES.items() if name in given}
    style = {"addressing_style": "path" if "endpoint_url" in named else "auto"}
    config = Config(s3=style, retries={"max_attempts": 3, "mode": "standard"}, connect_timeout=10, read_timeout=30)
    return boto3.client("s3", config=config, **named)


def _refuses(client: Any, where: dict[str, str]) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.put_object(**where, Body=b"second", IfNoneMatch="*")
    except ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] not in (409, 412):
            raise
        return True
    return False
