"""`python -m magicheap` is the command `magicheap`."""

import sys

from magicheap._cli import main

sys.exit(main())
