"""What you deploy: each ready-made flow with its schedule and parameters, as code.

`shops.py` lists the shops; the other files say, one flow each, when and how it runs for a shop.
"""
