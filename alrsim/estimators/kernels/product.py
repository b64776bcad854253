"""The registry of weighted products: a name for every way to compute the same gradient."""

from alrsim.errors import OptionError
from alrsim.estimators.kernels.int8 import INT8, INT8_BITS
from alrsim.estimators.kernels.packed import PACKED
from alrsim.estimators.kernels.real import BF16, FP32, PAPER
from alrsim.estimators.kernels.state import InputKind, NoiseKind, Product

PRODUCTS: dict[str, Product] = {kernel.name: kernel for kernel in (FP32, PAPER, BF16, INT8, INT8_BITS, PACKED)}
"""In order of preference at equal cost."""


def product(name: str, x: InputKind, e: NoiseKind) -> Product:
    """A kernel by name.

    Raises:
        OptionError: no such kernel, or it cannot multiply these codes.
    """
    able = [kernel.name for kernel in PRODUCTS.values() if kernel.takes(x, e)]
    if name not in PRODUCTS:
        raise OptionError(f"there is no kernel {name!r}", field="kernel", fix=f"choose one of {', '.join(PRODUCTS)}")
    if name not in able:
        raise OptionError(
            f"kernel {name!r} cannot multiply {x} input by {e} noise",
            field="kernel",
            fix=f"choose one of {', '.join(able)}, or other codes of input and noise",
        )
    return PRODUCTS[name]
