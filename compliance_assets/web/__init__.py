"""Who is watching?

The pages that people look at, and the lock on the ones that have none: the guard (`guard`) before Dagster's web pages, with
its users (`ui_users`), sessions (`sessions`), its reading of GraphQL (`graphql_rules`) and of requests (`request_rules`),
and the forwarding itself (`forwarding`). Nothing here decides about a release: what the pages let through meets the same
dossier as everything else. No metrics, no ledger queries beside the read-only ones of `governance`, no Dagster imports.
"""
