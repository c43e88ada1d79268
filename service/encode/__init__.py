"""A result to the formats that leave the service; none of them changes a number."""
