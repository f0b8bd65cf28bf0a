"""The eight metrics of SAEBench (arXiv:2503.09532) as functions of tensors, without downloads."""
