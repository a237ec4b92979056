"""Tests; they mirror the package. `typechecker` checks jaxtyping annotations: beartype, with ints welcome as floats."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
