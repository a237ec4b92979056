"""What assets work with: the home's profile and its Lance store."""

import dagster as dg

from posedreamer_assets.config import Profile
from posedreamer_assets.home import Home
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
    """Where tables and checkpoints live. An empty `root` means `<home>/storage`; a URI (`s3://...`) also works."""

    root: str = ""
    storage_options: dict[str, str] = {}  # noqa: RUF012, a pydantic field

    def get(self) -> LanceStore:
        """A plain store object."""
        root = self.root or str(Home.find().storage)
        return LanceStore(root, dict(self.storage_options) or None)
