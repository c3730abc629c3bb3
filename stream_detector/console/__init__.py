"""The console: pages on which people look at alerts, understand them, and answer.

    incidents.py   what has been told, as incidents: bounded, pure
    view.py        what is shown of it: filters, order, groups folded; pure
    phrases.py     all of it in words; pure
    feed.py        threads that follow topics and the store, and say what is away
    numbers.py     what the fleet does
    history.py     threads that fetch a sensor's readings and scores while somebody looks at it
    auth.py        the token, the cookie, and who may reach the pages at all
    chart.py       columns as pictures; pure
    pages/         one file a page
    app.py         ties them, and serves

What topics hold is data: it is shown as text, and never becomes markup, a key of a chart or part of an address
unquoted. Everything that a browser needs is served from the installed packages.
"""
