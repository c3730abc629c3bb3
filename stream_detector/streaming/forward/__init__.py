"""Alerts from their topic to where people are told: Alertmanager, PagerDuty, webhooks, chat and mail.

`forwarder` is the loop of one receiver, `told` knows which incidents a receiver has been told of, `undelivered` keeps
what one would not take, `delivery` is one request and what became of it; the rest is one file a kind of receiver.
"""
