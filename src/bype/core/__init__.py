"""Shared foundations: errors, options, registries, files, tensors, devices, numerical settings, terminal output.

Importing `config`, `console`, `errors`, `files`, `locks`, `names`, `registry`, `seeds`, `signals` or `version` does not
import torch, so that the command line starts fast.
"""
