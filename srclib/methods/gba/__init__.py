"""Group Bias Adaptation: sparsity without a penalty (Chen, Sheen, Xiong, Wang and Yang 2025).

    sae = hand_over_bias(SAE(d_in, 260, JumpReLU(), decoder_norm=1.0))
    train(sae, source, cfg, control=GroupBiases(geometric_targets(10, 0.1, 0.001), period=5))

`adapt` is the rule, `GroupBiases` follows it in training, `modified_ba` is the theorem's form.
"""

from __future__ import annotations

from .control import GroupBiases, biases, hand_over_bias
from .theory import modified_ba, width_needed
from .update import adapt, ceiling_l0, geometric_targets

__all__ = ["GroupBiases", "adapt", "biases", "ceiling_l0", "geometric_targets", "hand_over_bias"]
__all__ += ["modified_ba", "width_needed"]
