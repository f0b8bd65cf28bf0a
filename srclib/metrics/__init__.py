"""One definition per number: pure functions of tensors.

Shapes: x, x_hat [batch, d_in]; W_enc [d_in, d_sae]; W_dec [d_sae, d_in]; features
[n_features, d_in]; acts [n, d_sae].
"""

from __future__ import annotations

from .batches import (
    EffectiveFeatures,
    alive,
    effective_features,
    firing_rate,
    fvu,
    geometric_median,
    l0,
    most_prominent,
    mse,
    uncentred_variance_explained,
    z_score,
)
from .dictionary import (
    RECOVERED,
    Match,
    consistency,
    cosine_matrix,
    decoder_pairwise_cosine,
    displacement,
    feature_recovery_rate,
    match_to_features,
    max_cosine_similarity,
    nth_decoder_projection,
    unit_rows,
)
from .intervals import clustered_t, wilson
from .stability import Stability, noise_floor, stability

__all__ = ["EffectiveFeatures", "alive", "effective_features", "firing_rate", "fvu"]
__all__ += ["geometric_median", "l0", "most_prominent", "mse", "uncentred_variance_explained"]
__all__ += ["z_score"]
__all__ += ["RECOVERED", "Match", "consistency", "cosine_matrix", "decoder_pairwise_cosine"]
__all__ += ["displacement", "feature_recovery_rate", "match_to_features", "max_cosine_similarity"]
__all__ += ["nth_decoder_projection", "unit_rows"]
__all__ += ["clustered_t", "wilson"]
__all__ += ["Stability", "noise_floor", "stability"]
