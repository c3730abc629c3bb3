"""How good scores and decisions are, held against labels. Knows arrays; not where they come from.

    events.py       runs of marked rows
    ranking.py      without a threshold: VUS-PR, AUC-PR, ROC-AUC
    buffer.py       the buffer that VUS takes its slopes from: the series' period
    deployed.py     at the deployed threshold: events found, delay, false alarms, F1
    affiliation.py  affiliation precision and recall
    nab.py          the Numenta Anomaly Benchmark's three scores
    spread.py       a mean over series, and how certain it is

Rows are in time order. Point-adjusted F1 is not here: it calls an event found as a whole when one of its points is
flagged, and a random score reaches 0.9 with it.
"""
