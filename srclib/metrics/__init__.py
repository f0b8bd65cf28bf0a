"""One definition per number: pure functions of tensors.

Shapes: x, x_hat [batch, d_in]; W_enc [d_in, d_sae]; W_dec [d_sae, d_in]; features
[n_features, d_in]; acts [n, d_sae].
"""

from __future__ import annotations

from .consistency import consistency, most_prominent, z_score
from .dictionary import (
    decoder_pairwise_cosine,
    displacement,
    max_cosine_similarity,
    nth_decoder_projection,
    unit_rows,
)
from .intervals import clustered_t, value_range, wilson
from .matching import RECOVERED, Match, cosine_matrix, feature_recovery_rate, match_to_features
from .reconstruction import fvu, l0, mse, uncentred_variance_explained
from .stability import Stability, noise_floor, stability
from .statistics import EffectiveFeatures, effective_features, geometric_median

__all__ = [
    "RECOVERED",
    "EffectiveFeatures",
    "Match",
    "Stability",
    "clustered_t",
    "consistency",
    "cosine_matrix",
    "decoder_pairwise_cosine",
    "displacement",
    "effective_features",
    "feature_recovery_rate",
    "fvu",
    "geometric_median",
    "l0",
    "match_to_features",
    "max_cosine_similarity",
    "most_prominent",
    "mse",
    "noise_floor",
    "nth_decoder_projection",
    "stability",
    "uncentred_variance_explained",
    "unit_rows",
    "value_range",
    "wilson",
    "z_score",
]
