"""What is particular of a family of models: how its checkpoints name their tensors, which of their keys change the
forward pass and which do not, and what of a config the kernels are told. A family refuses whatever the engine would do
wrongly. There is one, LLaMA's.
"""
