"""How fast it is: what is timed, against what, and how it is written down."""
