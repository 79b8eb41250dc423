"""magic-llama: the options, what is asked and answered on the terminal, and the snapshots that a run starts from. All
that llama knows of magicheap is here, in _layers.py.
"""
