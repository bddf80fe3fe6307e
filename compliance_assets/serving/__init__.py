"""Where does a model answer?

Integration and production use the same server, the same checks before loading and the same log of every decision. What
lives here: the model server and its typed interface, the log of what it decided, the router in front of two servers (blue
and green), and the supervisor that keeps all of them at what the ledger says. What does not: deciding who may be deployed
(`stages.s8_deployment` and `evidence`), computing features (`features`), judging (`policy.gates`).
Importing this package is cheap.
"""
