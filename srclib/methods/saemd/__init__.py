"""SAE-MD (Kikutani, Kitada, Hara 2026): what an MLP adds to a block, and whether seeds agree."""
