"""`python -m compliance_assets.cli` is `compliance`."""

from compliance_assets.cli import main

main()
