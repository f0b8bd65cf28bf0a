"""Where numbers are computed: device, ranks, and the fast form of small operations."""
