"""What do we learn?

Views over evidence: what a person is shown before deciding, where each release stands, what a verification found, the plots
of a report. Nothing here computes a verdict, writes a gate or speaks HTML; everything shown can be traced to a record.
"""
