"""One file a command: HELP, add_arguments(parser) and run(args); `vlm_jax/cli.py` is the table."""
