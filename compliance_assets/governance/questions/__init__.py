"""The 35 questions that an auditor or a market surveillance authority asks, answered from signed records or said to be unknown.

`catalogue` lists them in order and answers one; `seen` holds what the records say about the version that is asked about; each other
module answers one family. An answer is facts, each with the ledger entry that it is read from, and what is missing. Nothing is inferred.
"""
