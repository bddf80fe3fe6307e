"""Trends that governance people watch, each with its formula, window, number of cases and interval: from signed records alone.

`history` reads what happened, `measures` computes, `summary` puts it together for the page, the command and machines.
"""
