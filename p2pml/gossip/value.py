"""What a value is here: a slotted dataclass that the type checker holds frozen.

A dataclass that is frozen when it runs pays a call for each field of each object that is made, and a node makes
several for each packet. That nothing changes one is for the type checker to see, which costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True)
def value(cls: type[T]) -> type[T]:
    """Make a class one of values."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
