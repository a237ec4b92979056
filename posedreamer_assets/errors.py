"""Every error this project raises on purpose, in one tree.

PoseDreamerError
├── ConfigError            a profile or option that cannot be used
├── ArrayFileError         an npz or npy that is damaged, pickled, or unpacks to more than it accounts for; carries a `reason`
├── BodyModelError         an SMPL-X model file that is missing, truncated or of the wrong layout
├── PoseFileError          a pose source (BVH, AMASS npz, fit) that cannot be read; carries a `reason` code
│   └── UnreadableBatchError   a batch of pose files of which none has a usable frame
├── ImageError             an image whose pixels would take more memory than its file accounts for
├── CaptionError           text that the caption grammar does not know
├── RenderError            OpenGL is missing or a frame could not be drawn
├── BackendError           an image generator could not be loaded or run
│   └── EngineError            a worker that paints failed, or could not be kept alive
├── DetectorError          a keypoint or person detector could not be loaded or run
├── AlignmentError         preference pairs or a DPO run that cannot go on
├── CurriculumError        a difficulty model or hard-sample selection that cannot be made
├── MetricsError           a quality figure that cannot be computed from what was given
├── PhotoError             annotated photographs that cannot be used
├── RecipeError            a study or recipe of training data that cannot be used
├── StudentError           a student that cannot be trained, loaded or scored
├── ExportError            a dataset that cannot be written in the format asked for, or read back
├── StorageError           a table or partition that cannot be read or written
└── CheckError             a data check file that cannot be understood
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa


class PoseDreamerError(Exception):
    """Base of all errors raised on purpose; its text says what was found and what was expected."""


class ConfigError(PoseDreamerError):
    """A profile or option that cannot be used."""


class ArrayFileError(PoseDreamerError):
    """A file of arrays that is not read; who reads files of a kind says which file, in an error of that kind.

    Attributes:
        reason: `truncated`, `pickle` or `absurd_value`, as in PoseFileError.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class BodyModelError(PoseDreamerError):
    """An SMPL-X model file that is missing, truncated or of the wrong layout."""


class PoseFileError(PoseDreamerError):
    """A pose source that cannot be read.

    Attributes:
        path: the file.
        reason: a short code that is counted in reports: `nan`, `shape`, `missing_key`, `dtype`, `absurd_value`,
            `empty`, `pickle`, `truncated`, `syntax`, `unknown_layout`, `ambiguous_up_axis`,
            `not_a_person`, `hands_only`.
    """

    def __init__(self, path: object, reason: str, detail: str) -> None:
        self.path = str(path)
        self.reason = reason
        self.detail = detail
        super().__init__(f"{self.path}: {reason}: {detail}")


class UnreadableBatchError(PoseFileError):
    """A batch of pose files of which none has a usable frame; other batches can be made all the same.

    Attributes:
        beside: rows of other tables at the same partition that say why, by table.
    """

    def __init__(self, path: object, detail: str, beside: Mapping[str, "pa.Table"]) -> None:
        super().__init__(path, "empty", detail)
        self.beside = beside


class ImageError(PoseDreamerError):
    """An image whose pixels would take more memory than its file accounts for."""


class CaptionError(PoseDreamerError):
    """Text that the caption grammar does not know."""


class RenderError(PoseDreamerError):
    """OpenGL is missing or a frame could not be drawn."""


class BackendError(PoseDreamerError):
    """An image generator could not be loaded or run."""


class EngineError(BackendError):
    """A worker that paints failed with an error that is not of this project, or ended again and again."""


class DetectorError(PoseDreamerError):
    """A keypoint or person detector could not be loaded or run."""


class AlignmentError(PoseDreamerError):
    """Preference pairs or a DPO run that cannot go on."""


class ControlTrainingError(PoseDreamerError):
    """A control LoRA that cannot be trained."""


class CurriculumError(PoseDreamerError):
    """A difficulty model or hard-sample selection that cannot be made."""


class MetricsError(PoseDreamerError):
    """A quality figure that cannot be computed from what was given."""


class PhotoError(PoseDreamerError):
    """Annotated photographs that cannot be used."""


class RecipeError(PoseDreamerError):
    """A study or recipe of training data that cannot be used."""


class StudentError(PoseDreamerError):
    """A student that cannot be trained, loaded or scored."""


class ExportError(PoseDreamerError):
    """A dataset that cannot be written in the format asked for, or read back."""


class StorageError(PoseDreamerError):
    """A table or partition that cannot be read or written."""


class CheckError(PoseDreamerError):
    """A data check file that cannot be understood."""
