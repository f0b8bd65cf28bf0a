"""Language models: sites of the residual stream, harvesting, training from scratch."""
