"""What every room may lean on: errors, options, files, tensors, devices, numerical settings, terminal output.

Only `config`, `console`, `errors`, `files` and `version` may be imported without torch; the command line needs those.
"""
