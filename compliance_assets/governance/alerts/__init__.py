"""Trends that somebody must look at: eight rules over the records, alerts that stay in the ledger, and what people did about them.

`rules` computes and knows no ledger; `keeping` opens, acknowledges and closes, each as a signed record. An alert states data, not a cause.
"""
