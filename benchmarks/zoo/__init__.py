"""Which number predicts generation: encoders, generators and the study that judges candidates.

    python -m benchmarks.zoo --help

The plan that was fixed before anything was run is PROTOCOL.md, beside this file.
"""
