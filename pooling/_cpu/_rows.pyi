"""The addresses of the row loops, by what they do: ("load", expression, cell, accumulator) and so on."""

ROWS: dict[tuple[str, ...], int]
