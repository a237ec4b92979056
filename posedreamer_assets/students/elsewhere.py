"""What is written into another trainer's configuration for a recipe that was exported: `train.md` beside the export."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

_LABELS = {"humandata": "preprocessed_datasets/*.npz", "hmr2": "*.tar", "bedlam": "*.npz"}
_IMAGES = {"humandata": "datasets/posedreamer", "hmr2": "", "bedlam": "images"}
_HEAD = """\
# Training on recipe `{recipe}`

{samples} samples of draw {draw}, written as `{form}`. What follows are the settings of the trainer's own code; nothing of that
code is part of this export. Give every recipe that you compare equally many steps, not epochs.

"""
_SMPLER_X = """\
## SMPLer-X

A data set is a class in `data/{name}/{name}.py` that derives from `HumanDataset`, and sets `self.img_shape = None`,
`self.cam_param = {{}}`, `self.img_dir = "<this folder>/{images}"` and `self.annot_path` to a label file below, before it sets
`self.datalist = self.load_data(train_sample_interval=getattr(cfg, "{name}_train_sample_interval", 1))`. A label file is one data
set: {several}

{files}

In the configuration (`main/config/config_smpler_x_s32.py` shows all keys):

```python
trainset_3d, trainset_2d = [], []
trainset_humandata = {names}
{intervals}
data_strategy = 'balance'
total_data_len = {samples}  # samples an epoch, from all data sets together; larger repeats them
use_cache = False           # else a cache of another recipe is taken for this one
```

Add BEDLAM or others to `trainset_humandata` to mix: `balance` shares `total_data_len` out over all data sets alike.
"""
_HMR2 = """\
## HMR2.0 (4D-Humans)

In `hmr2/configs/datasets_tar.yaml`:

```yaml
{name}-TRAIN:
    TYPE: ImageDataset
    URLS: <this folder>/{urls}
    epoch_size: {samples}
```

and in the data configuration (`hmr2/configs_hydra/data/*.yaml`):

```yaml
DATASETS:
  TRAIN:
    {name}-TRAIN:
      WEIGHT: 1.0
```

Weights of all data sets add up to 1. Images without SMPL parameters need `DATASETS.BETAS_REG: False`, see docs/exports.md.
"""
_BEDLAM = """\
## BEDLAM-CLIFF

In `train/core/config.py`, by a name that has no underscore, because underscores part names in the setting below:

```python
DATASET_FOLDERS |= {{{folders}}}
DATASET_FILES[1] |= {{{labels}}}  # [0] are those of validation
```

In `configs/bedlam_cliff_x.yaml` (SMPL-X: `TRIAL.version: smplx`):

```yaml
DATASET:
  DATASETS_AND_RATIOS: '{joined}'
```

Join BEDLAM's own names with underscores to mix.
"""


def train_notes(form: str, recipe: str, draw: int, samples: int, folder: Path) -> str | None:
    """The text of `train.md`; None for formats that none of these trainers reads.

    Args:
        form: name of the format.
        recipe, draw: what was exported. samples: how many.
        folder: of the finished export.
    """
    writers: dict[str, Callable[..., str]] = {"humandata": _smpler_x, "hmr2": _hmr2, "bedlam": _bedlam}
    if form not in writers:
        return None
    files = sorted(str(path.relative_to(folder)) for path in folder.glob(_LABELS[form]))
    head = _HEAD.format(recipe=recipe, samples=samples, draw=draw, form=form)
    return head + writers[form](recipe, samples, files, _IMAGES[form])


def _camel(recipe: str) -> str:
    """A class's name: `rendered-half` gives `PoseDreamerRenderedHalf`."""
    return "PoseDreamer" + "".join(part.capitalize() for part in recipe.split("-"))


def _smpler_x(recipe: str, samples: int, files: Sequence[str], images: str) -> str:
    base = _camel(recipe)
    names = [base] if len(files) == 1 else [f"{base}{i}" for i in range(len(files))]
    several = "there is one." if len(files) == 1 else f"there are {len(files)}, each with a class of its own."
    listed = "\n".join(f"* `{name}`: `<this folder>/{file}`" for name, file in zip(names, files, strict=True))
    intervals = "\n".join(f"{name}_train_sample_interval = 1" for name in names)
    return _SMPLER_X.format(
        name=names[0], names=names, intervals=intervals, several=several, files=listed, samples=samples, images=images
    )


def _hmr2(recipe: str, samples: int, files: Sequence[str], images: str) -> str:
    urls = files[0] if len(files) == 1 else "{" + ",".join(PurePosixPath(file).stem for file in files) + "}.tar"
    return _HMR2.format(name=f"POSEDREAMER-{recipe.upper()}", urls=urls, samples=samples)


def _bedlam(recipe: str, samples: int, files: Sequence[str], images: str) -> str:
    names = [f"posedreamer-{recipe}" + (f"-{i}" if len(files) > 1 else "") for i in range(len(files))]
    folders = ", ".join(f"'{name}': '<this folder>/{images}'" for name in names)
    labels = ", ".join(f"'{name}': '<this folder>/{file}'" for name, file in zip(names, files, strict=True))
    return _BEDLAM.format(folders=folders, labels=labels, joined="_".join(names))
