"""Data for training: arrays in memory, map-style data sets, and iterables of batches."""

from trine.data.batches import (
    ArrayBatches,
    Batch,
    Batches,
    ClassWeighted,
    IterableBatches,
    MapBatches,
    NumberedBatches,
    as_batch,
    batches,
    endless,
    first_batch,
)
from trine.data.order import permutation

__all__ = [
    "ArrayBatches",
    "Batch",
    "Batches",
    "ClassWeighted",
    "IterableBatches",
    "MapBatches",
    "NumberedBatches",
    "as_batch",
    "batches",
    "endless",
    "first_batch",
    "permutation",
]
