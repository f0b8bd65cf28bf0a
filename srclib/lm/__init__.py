"""Language models: sites of the residual stream, harvesting, streaming, training from scratch."""
