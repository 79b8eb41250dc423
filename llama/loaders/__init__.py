"""From a checkpoint on disk to a model in memory: a file or directory is recognised, a loader of its format reads it
(GGUF; Meta's layout, with its pickles), and what it read is put into one mk_model. Each loader takes its bytes for
hostile, and refuses what the engine does not do.
"""
