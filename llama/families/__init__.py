"""Properties of a family of models: the names of tensors in its checkpoints, the keys that change the forward pass and
those that do not, and the kernels' configuration. A family refuses models that the engine would evaluate wrongly. There
is one family, LLaMA's.
"""
