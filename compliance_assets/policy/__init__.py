"""What was promised?

The eight stages and their gates (`river`), an AI system as its owner declares it (`system`), the people, keys and
environments (`organisation`), and how a bound and a measurement become a verdict (`gates`). No arrays, no ledger, no
orchestrator: a promise can be read without running anything.
"""
