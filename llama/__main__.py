"""magic-llama: `python -m llama`, which the launcher resumes after the imports."""

import sys


def import_all() -> None:
    """Import the modules that every answer of a chat model needs, and make the parser of the options."""
    try:
        import jinja2.ext
        import jinja2.sandbox  # noqa: F401
        import tokenizers  # noqa: F401
    except ImportError:  # the code that needs the package will say so
        pass
    import llama.command._cli
    import llama.loaders._gguf
    import llama.text._chat  # noqa: F401
    from llama.command._options import parser

    parser()


try:
    from llama.command._layers import IMPORTS, layer

    layer(IMPORTS, import_all)

    if __name__ == "__main__":
        from llama.command._cli import main

        sys.exit(main())
except KeyboardInterrupt:  # while it was loading
    sys.exit(130)
