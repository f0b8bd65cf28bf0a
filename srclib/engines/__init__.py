"""Which processes compute what a run asks for, and what that costs beforehand."""
