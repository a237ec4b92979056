"""How many cores NumPy's matrix products may use.

Most products here are of some hundred rows. Cores that share such a product mostly wait for each other, and where other
programs run, for the one that is not running: posing bodies took eight times as long. PyTorch's own cores are not touched.
"""

from contextlib import AbstractContextManager
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController


def one_core() -> AbstractContextManager[object]:
    """Within this context products of NumPy and SciPy are made by the core that asks for them."""
    return _libraries().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _libraries() -> "ThreadpoolController":
    """Finding the libraries takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
