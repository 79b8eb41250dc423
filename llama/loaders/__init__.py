"""From a checkpoint on disk to a model in memory: a file or directory is recognised, a loader of its format reads it
(GGUF; Meta's layout, with its pickles), and the result becomes one mk_model. Each loader treats its bytes as hostile,
and refuses features that the engine lacks.
"""
