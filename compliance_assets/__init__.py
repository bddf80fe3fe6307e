"""An AI pipeline that is its own compliance specification: eight gated stages from a raw file to a deployment record.

The map. Each room answers one question:

- `policy`         what was promised?       the river of eight stages, declared systems, people, bounds and verdicts
- `metrics`        what was measured?       arrays in, numbers with intervals out
- `trust`          who vouches?             canonical bytes, signatures, the Merkle tree
- `evidence`       what is remembered?      records, artefacts, the ledger, the dossier that admits none out of turn
- `sources`        where does data come from?
- `features`       the one function that makes features, for training and for serving
- `modelfile`      how is a model stored without running anybody's code?
- `registry`       where are models listed?
- `serving`        where does a model answer?
- `stages`         what happened, in what order?
- `pipeline`       the one way a stage runs: require → produce → judge → seal → record
- `governance`     what do we learn?
- `orchestration`  who drives?              the only room that speaks Dagster
- `web`            who is watching?
- `cli`            a person's door

Importing this package loads none of the heavy libraries.
"""

__version__ = "0.1.0"
