"""From a trained model to the one that serves: compiled and compared with scikit-learn, or the reason why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from p2pml.errors import RemoteError

if TYPE_CHECKING:
    from p2pml.ensemble.compiled import CompiledModel
    from p2pml.ensemble.models import Model
    from p2pml.ensemble.values import Columns

ARRAYS = "arrays-"
"""How the file of a compiled model begins; the digest of its content follows, and is the model's name everywhere."""

PICKLED = "model-"
"""The same of a model that scikit-learn serves, which only the peer that wrote it reads."""


def compile_model(model: Model, columns: Columns) -> tuple[bytes | None, str | None]:
    """The bytes of `model`, compiled as any other peer would read it and compared with it on these rows; or None,
    and the reason why scikit-learn has to serve it."""
    from p2pml.ensemble.compiled import CompiledModel, verify
    from p2pml.ensemble.extraction import NotCompiled
    from p2pml.ensemble.portable import Portable

    try:
        packed = Portable.of(model).packed()
        difference = verify(model, CompiledModel(Portable.read(packed)), columns)
    except (NotCompiled, RemoteError) as error:
        return None, str(error)
    if not difference.acceptable:
        flipped = f", and {difference.flipped} rows get another class" if difference.flipped else ""
        return None, f"compiled it differs from scikit-learn by {difference.largest:.1g}{flipped}"
    return packed, None


def load_compiled(packed: bytes) -> CompiledModel:
    """The model in the bytes that `compile_model` gave, without scikit-learn; RemoteError if they are none, be it
    that a newer p2pml wrote them."""
    from p2pml.ensemble.compiled import CompiledModel
    from p2pml.ensemble.portable import Portable

    return CompiledModel(Portable.read(packed))
