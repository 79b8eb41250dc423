"""magic-llama: options, dialogue on the terminal, and the snapshots that a run starts from. Only _layers.py knows
magicheap.
"""
