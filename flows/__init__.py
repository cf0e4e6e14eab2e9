"""Deployments of the ready-made flows as code: schedules, blocks and parameters.

`shops.py` lists the shops. Each other file is for one flow: when it runs for a shop, and with which
parameters.
"""
