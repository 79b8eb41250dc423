"""Tokens to tokens: sessions, which evaluate them, and samplers, which draw the next one. Knows nothing of text or of
files.
"""
