"""``lgmpose verdict``: the paper's claims, tested on this machine.

================  =====================================================================================
``paper_claims``  the claims that a laptop can test, the rule that decides them, and what is not tested
``claim_timing``  runs the processes of ``lgmpose.lab.bench`` in turns and judges their ratios
``verdict_card``  the result as Markdown, as an HTML card, and several results side by side
================  =====================================================================================
"""
