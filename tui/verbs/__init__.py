"""What each sub-command does; a module has `add_arguments(parser)` and `run(arguments)`."""
