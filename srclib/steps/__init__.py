"""One training step in closed form: active pairs, gradients, revived latents."""
