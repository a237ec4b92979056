"""What assets work with: the home's profile and its Lance store."""

from typing import TYPE_CHECKING

import dagster as dg

from posedreamer_assets.config import Profile
from posedreamer_assets.runtime.home import Home, refuse_former_layout

if TYPE_CHECKING:
    from posedreamer_assets.storage import LanceStore


class ProfileResource(dg.ConfigurableResource):
    """The resolved profile of a home. An empty `home` means `$POSEDREAMER_HOME`, else `./posedreamer_home`."""

    home: str = ""

    def get(self) -> Profile:
        """Read `<home>/profile.yaml`; the pocket profile where it is not yet written."""
        return self.place().profile()

    def place(self) -> Home:
        """The home's layout."""
        return Home.find(self.home or None)


class LanceStoreResource(dg.ConfigurableResource):
    """Where tables and checkpoints live: a folder or a URI (`s3://...`).

    An empty `root` means the home's, see `Home.storage_root`; an empty `cache` means `<home>/cache`. Credentials and
    endpoints of object stores come from the environment, or from `storage_options`.
    """

    root: str = ""
    storage_options: dict[str, str] = {}  # noqa: RUF012, a pydantic field
    cache: str = ""

    def get(self) -> "LanceStore":
        """A plain store object."""
        from posedreamer_assets.storage import LanceStore

        home = Home.find()
        store = LanceStore(
            self.root or home.storage_root, dict(self.storage_options) or None, cache=self.cache or home.cache
        )
        refuse_former_layout(store)
        return store
