"""fork() from disk: load once; every later run starts where the load ended.

    with magic_transaction():                      # the first run executes the body and commits the process
        model = load_model("7B")
    print(model.answer(sys.argv[1]))               # every later run begins here

Or, for several in one process, the C heap alone, which later runs map:

    with magic_transaction("magic.dat", process=False) as magic:
        if not magic.was_committed:                # the first run, or one whose snapshot is stale
            magic.root = load_model("7B")
    model = magic.root                             # every later run gets it in place
"""

from magicheap._exceptions import (
    BusyError,
    CorruptError,
    DanglingError,
    FormatError,
    MagicHeapError,
    MagicHeapWarning,
    NoSpaceError,
    RootError,
    StaleError,
    UnsupportedError,
    UntrustedError,
)

__version__ = "0.1.0"

__all__ = [
    "BusyError",
    "CorruptError",
    "DanglingError",
    "FormatError",
    "MagicHeapError",
    "MagicHeapWarning",
    "MagicTransaction",
    "NoSpaceError",
    "RootError",
    "StaleError",
    "UnsupportedError",
    "UntrustedError",
    "magic_transaction",
]

try:
    # by name for tools that freeze programs: otherwise only the compiled half says that it needs this
    import _cffi_backend as _

    from magicheap import _errors
    from magicheap._transaction import MagicTransaction, magic_transaction
except ImportError as _error:
    if "subinterpreter" not in str(_error):
        raise
    from magicheap import _cold
    from magicheap._cold import MagicTransaction, magic_transaction  # type: ignore[assignment]

    _cold.reason = str(_error)
else:
    _errors.check_version(__version__)
    from magicheap import _watch

    _watch.begin_here()

for _name in __all__:
    globals()[_name].__module__ = __name__  # tracebacks name what users import
del _name
