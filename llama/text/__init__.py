"""Text to tokens and back: a model's vocabulary as its file has it and as it is kept in memory, the tokenizers that
work on that, and chat templates, which make the text of a conversation.
"""
