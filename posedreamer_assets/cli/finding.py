"""What `posedreamer doctor` says of one thing."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's answer. `required`: whether the main job fails without it."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""
    required: bool = True

    @property
    def mark(self) -> str:
        """ok, missing, or none for something that can be done without."""
        return "ok" if self.ok else ("missing" if self.required else "none")
