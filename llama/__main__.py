"""magic-llama: `python -m llama`, which the launcher resumes behind the imports."""

import sys

try:
    from llama.command import _layers

    _layers.import_all()

    if __name__ == "__main__":
        from llama.command._cli import main

        sys.exit(main())
except KeyboardInterrupt:  # while it was loading
    sys.exit(130)
