"""Toy features of which some imply others, as a word implies its first letter.

Absorption (Chanin et al. 2024, arXiv:2409.14507): an SAE is sparser when the latent of the child
writes the parent as well, and the parent's own latent stays silent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..errors import ParameterError, message
from .toy import ToyFeatures


class Implied(ToyFeatures):
    """`ToyFeatures` where a child never fires without its parent.

    parents: {child: parent}, places of features; a parent has no parent. A parent that fires for
    its child alone has that child's magnitude. true_l0 counts it. Raises ParameterError.
    """

    def __init__(self, *args: Any, parents: Mapping[int, int], **how: Any) -> None:
        super().__init__(*args, **how)
        n = len(self.features)
        for child, parent in parents.items():
            if not (0 <= child < n and 0 <= parent < n) or parent in parents:
                allowed = f"two places of {n} features, a parent without a parent"
                raise ParameterError(message("parents", f"{child}: {parent}", allowed, "Mend it."))
        if self.corr is not None:
            raise ParameterError(message("corr", "a matrix", "None", "Leave it out."))
        self.parents = dict(parents)
        silent = 1 - self.p  # [n_features], of the feature by itself
        for parent in set(parents.values()):
            children = [c for c, p in parents.items() if p == parent]
            self.true_l0 += float(silent[parent] * (1 - silent[children].prod()))

    @property
    def identity(self) -> dict[str, Any]:
        return super().identity | {"parents": sorted(self.parents.items())}

    def codes(self, step: int, n_batch: int) -> Tensor:
        """[n_batch, n_features], as `ToyFeatures.codes`."""
        codes = super().codes(step, n_batch)
        for child, parent in self.parents.items():
            lacking = (codes[:, parent] == 0) & (codes[:, child] > 0)
            codes[:, parent] = torch.where(lacking, codes[:, child], codes[:, parent])
        return codes
