"""What is remembered, and can it be undone?

The ledger, the artefact store and the records they hold live here: what was done, to which bytes, who vouched for it,
and how to go from any of it to all of the rest. Nothing here measures, judges a measurement, or acts on the world. What
is written once is never changed; whoever changes it anyway is found out.
"""
