"""Deployments of the ready-made flows as code: schedules, blocks and parameters.

`shops.py` lists the shops; the other files say, one flow each, when and how it runs for a shop.
"""
