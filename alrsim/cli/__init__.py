"""The command line: one verb for each arrow of the data flow, and the comparison that uses them all.

Modules of this package import nothing heavy at the top: ``alrsim --help`` must not load torch, simpy or matplotlib.
"""
