"""The manual fallback: the same eight stages done by hand, from the same definition, through the same wall, with a signed log.

A runbook suits a system that is trained again once a quarter or less; more often, an orchestrator should drive (a published guide's
convention). `plan` renders it from the definition, `log` reads what people recorded, `working` starts, does, verifies and ends.
"""
