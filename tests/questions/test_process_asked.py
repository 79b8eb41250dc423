"""What counts as a question of the body's: another answer makes the run cold; what only looks like one leaves it
warm."""

import pytest

PROGRAM = """
    import os, subprocess, sys
    from magicheap import magic_transaction
    alias = os.environ
    def read_settings(prefix):
        return {{name: value for name, value in os.environ.items() if name.startswith(prefix)}}
    with magic_transaction("x.magic"):
        print("body")
        {}
    print("end")
"""
COPIES = [
    "os.environ.copy()",
    "dict(os.environ)",
    "{**os.environ}",
    "os.environb.copy()",
    "os.environ | {}",
    "dict(**os.environ)",
    "subprocess.run(['true'], env=os.environ)",
]
LOOKS = [
    "os.environ['NAME']",
    "os.environb[b'NAME']",
    "os.getenvb(b'NAME')",
    "'NAME' in os.environ",
    "dict(os.environ); os.environ['NAME']",
]
WALKS = [
    "[os.environ[name] for name in os.environ]",
    "list(os.environ.items())",
    "{name.lower(): value for name, value in os.environ.items()}",
    "sorted(os.environ)",
    "for name in os.environ.keys(): pass",
    "[value for value in os.environ.values()]",
    "dict(os.environ.items())",
    "str(os.environ)",
    "any(name == 'NAME' for name in os.environb)",
    "[name for name in os.environ if name.startswith('NAME') or name.startswith('ELSE')]",
    "[value for value in os.environ.values() if value.startswith('http')]",
    "sorted(os.environ.keys())",
    "len(os.environ.keys() - {'ELSE'})",
    "len(os.environ)",
    "len(os.environb) > 3 and len(os.environ.items())",
    "[name for name in map(lambda name: name[1:], os.environ) if name.startswith('ELSE')]",
    "[[k for k in alias if k[:2] == 'NA'], [k for k in os.environ if k.startswith('ELSE')]]",
    "for k in os.environ:\n            if k.startswith('ELSE'):\n                pass\n        last = k",
    "p = 'PATH'\n        for k in os.environ:\n            if k.startswith(p):\n                p = 'NAME'",
]
WANTS = {  # loops that want the variables called MY_*, in any case
    "a comprehension": "{name: value for name, value in os.environ.items() if name.startswith('MY_')}",
    "with more": "[name for name in os.environ if name.lower().startswith('my_') and len(name) > 3]",
    "in bytes": "[name for name in os.environb if name.startswith(b'MY_')]",
    "a variable": "read_settings('MY_')",
    "one of two": "[name for name in os.environ if name.startswith(('MY_', 'YOUR_'))]",
    "tqdm": "import tqdm; tqdm.utils.envwrap('MY')",
    "a statement": """for name, value in os.environ.items():
            if name.startswith('MY_'):
                found = value
            else:
                continue""",
    "a guard": """for name in os.environ:
            if not name.startswith('MY_'):
                continue
            found = name""",
}


ZONES = [
    "time.tzname",
    "vars(time)['timezone']",
    "time.__dict__['altzone']",
    "types.SimpleNamespace(**vars(time)).daylight",
    "dict(inspect.getmembers(time))['tzname']",
    "exec('from time import *')",
    "getattr(time, 'timezone')",
]
PLAIN_MODULE = """
    import sys, time
    from magicheap import magic_transaction
    def look():
        print(sorted(vars(time)), dir(time), hasattr(time, "__getattr__"), hasattr(time, "__all__"), repr(time))
        print(type(time).__name__, type(time).__module__, isinstance(time, type(sys)))
        del time.tzname
        print(hasattr(time, "tzname"), "tzname" in vars(time))
        time.tzname = ("ONE", "TWO")
        print(time.tzname, vars(time)["tzname"])
        time.tzset()
        print(time.tzname)
        try:
            time.nothing
        except AttributeError as error:
            print(error, error.name, error.obj is time)
    with magic_transaction("x.magic"):
        print("body")
        look()
    print(type(time) is type(sys))
"""


@pytest.mark.parametrize("copy", COPIES)
def test_who_copies_the_whole_environment_asks_for_no_variable(life, copy):
    life.write(PROGRAM.format(copy))
    life.cold("python", "program.py", env={"NAME": "one"})
    life.warm("python", "program.py", env={"NAME": "two"})


@pytest.mark.parametrize("look", LOOKS)
def test_who_looks_up_a_variable_asks_for_it_however_that_is_done(life, look):
    life.write(PROGRAM.format(look))
    life.cold("python", "program.py", env={"NAME": "one"})
    life.cold("python", "program.py", env={"NAME": "two"}, why="environment variable NAME has changed")
    life.warm("python", "program.py", env={"NAME": "one"})


@pytest.mark.parametrize("walk", WALKS)
def test_who_walks_through_the_environment_asks_for_all_of_it(life, walk):
    life.write(PROGRAM.format(walk))
    life.cold("python", "program.py", env={"NAME": "one"})
    life.warm("magic", "program.py", env={"NAME": "one", "SHLVL": "7", "OLDPWD": "/"})
    life.cold(
        "python",
        "program.py",
        env={"NAME": "one", "MORE": ""},
        why="environment variable MORE has changed: it was not set",
    )
    life.cold("magic", "program.py", env={"NAME": "two"}, why="has changed")  # of several variants one is named
    life.warm("magic", "program.py", env={"NAME": "one"})


@pytest.mark.parametrize("loop", WANTS.values(), ids=WANTS)
def test_a_loop_that_wants_a_prefix_asks_for_the_variables_that_have_it(life, loop):
    life.write(PROGRAM.format(loop))
    life.cold("python", "program.py", env={"MY_NAME": "one", "NAME": "one"})
    life.warm("magic", "program.py", env={"MY_NAME": "one", "MORE": "", "NAME": "two"})
    life.cold(
        "magic",
        "program.py",
        env={"MY_NAME": "one", "MY_OTHER": ""},
        why="environment variable MY_OTHER has changed: it was not set",
    )
    life.cold("python", "program.py", env={"MY_NAME": "two"}, why="has changed")


def test_the_proxies_that_were_looked_for_are_the_variables_that_are_called_so(life):
    life.write(PROGRAM.format("import urllib.request; urllib.request.getproxies()"))
    life.cold("python", "program.py", env={"no_proxy": "*"})
    life.warm("magic", "program.py", env={"no_proxy": "*", "MORE": ""})
    life.cold(
        "magic",
        "program.py",
        env={"no_proxy": "*", "FTP_Proxy": "http://somewhere"},
        why="environment variable FTP_Proxy has changed",
    )


@pytest.mark.parametrize("look", ZONES)
def test_who_looks_at_the_time_zone_asks_for_it_however_that_is_done(life, look):
    life.write(PROGRAM.format(f"import inspect, time, types; zone = {look}"))
    life.cold("python", "program.py", env={"TZ": "UTC"})
    life.cold("python", "program.py", env={"TZ": "Asia/Tokyo"}, why="environment variable TZ has changed")
    life.warm("python", "program.py", env={"TZ": "UTC"})


def test_who_only_tells_the_time_does_not_ask_for_the_zone(life):
    life.write(PROGRAM.format("import time; now = time.time(), time.monotonic(), time.gmtime(), time.perf_counter()"))
    life.cold("python", "program.py", env={"TZ": "UTC"})
    life.warm("python", "program.py", env={"TZ": "Asia/Tokyo"})


def test_the_module_time_is_as_ever_to_the_body(life):
    life.write(PLAIN_MODULE)
    plain = life.run("python", "program.py", env={"MAGICHEAP_DISABLE": "1"}).out
    assert life.run("python", "program.py").out == plain
    assert life.warm("python", "program.py") == plain.splitlines(keepends=True)[-1]


def test_a_look_behind_a_copy_is_a_question(life):
    life.write(PROGRAM.format("copy = [os.environ.copy() for _ in range(2)]; os.environ['NAME']"))
    life.cold("python", "program.py", env={"NAME": "one"})
    life.cold("python", "program.py", env={"NAME": "two"}, why="environment variable NAME has changed")


def test_the_environment_is_as_ever_to_the_body(life):
    life.write("""
        import copy, inspect, os
        from magicheap import magic_transaction
        def look():
            for each in (os.environ, os.environb):
                print(each.encodekey.__name__, each.decodekey.__qualname__, each.encodekey.__module__)
                print(type(each).__len__.__name__, inspect.isfunction(each.encodekey))
                print(inspect.signature(each.encodekey))
                print(copy.deepcopy(each) == each, type(each) is type(os.environ))
        with magic_transaction("x.magic"):
            print("body")
            look()
    """)
    assert life.run("python", "program.py").out == life.run("python", "program.py", env={"MAGICHEAP_DISABLE": "1"}).out


def test_the_arguments_go_to_other_processes_as_a_plain_list(life):
    life.write(
        PROGRAM.format(
            "import pickle; text = pickle.dumps(sys.argv); assert b'magicheap' not in text and "
            "pickle.loads(text) == sys.argv"
        )
    )
    life.cold("python", "program.py", "a")
    life.warm("python", "program.py", "a")


def test_what_the_key_is_made_of_is_no_question_of_the_program(life):
    (life.directory / "below").mkdir()
    life.write("from magicheap import magic_transaction\nwith magic_transaction():\n    print('body')\n", "named.py")
    found = {"PYTHONPATH": str(life.directory)}
    life.cold("python", "-P", "-m", "named", env=found)
    life.warm("python", "-P", "-m", "named", env=found, cwd=life.directory / "below")


SPAWNS = """
    import os, sys
    from magicheap import magic_transaction
    def tell():
        print(os.path.basename(os.getcwd()), flush=True)
    if __name__ == "__main__":
        with magic_transaction({path!r}):
            print("body")
            {before}
            import multiprocessing
        child = multiprocessing.get_context("spawn").Process(target=tell)
        child.start()
        child.join()
"""


def test_the_import_of_multiprocessing_does_not_ask_where_its_workers_will_be(life):
    (life.directory / "below").mkdir()
    life.write(SPAWNS.format(path=str(life.directory / "x.magic"), before=""))
    assert life.cold("python", life.directory / "program.py") == f"{life.directory.name}\n"
    assert life.warm("python", life.directory / "program.py", cwd=life.directory / "below") == "below\n"
    assert life.warm("magic", life.directory / "program.py", cwd="/") == "\n"


def test_a_directory_that_the_body_went_to_is_that_of_workers(life):
    (life.directory / "below").mkdir()
    life.write(
        SPAWNS.format(path=str(life.directory / "x.magic"), before=f"os.chdir({str(life.directory / 'below')!r})")
    )
    assert life.cold("python", life.directory / "program.py").replace("body\n", "") == "below\n"
    assert (
        life.run("python", life.directory / "program.py", cwd="/", env={"MAGICHEAP_DISABLE": "1"}).out
        == "body\nbelow\n"
    )
    assert life.run("python", life.directory / "program.py", cwd="/").out.replace("body\n", "") == "below\n"


KEEPS = """
    import os
    from magicheap import magic_transaction
    with magic_transaction("first.magic"):
        print("body")
        import sqlite3  # which keeps the address of TMPDIR's value
        database = sqlite3.connect("file::memory:")
    with magic_transaction("second.magic"):
        pass
    database.executescript("pragma temp_store = 1; pragma cache_size = 10; create temp table t (x)")
    database.executemany("insert into t values (?)", (("x" * 1000,) for _ in range(2000)))
    open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
        if os.path.lexists(f"/proc/self/fd/{fd}")]
    print([os.path.basename(os.path.dirname(path)) for path in open_files if "etilqs" in path])
"""


def test_what_c_code_was_told_of_a_variable_is_there_again_and_not_in_the_file(life):
    name = "sesame-4711"
    (life.directory / "below" / name).mkdir(parents=True)
    life.write(KEEPS)
    env = {"TMPDIR": str(life.directory / "below" / name)}
    assert life.cold("python", "program.py", env=env) == f"['{name}']\n"
    (life.directory / "second.magic").unlink()
    for _ in range(2):  # the first one of these makes a layer of its own process, which has the value again
        assert life.run("python", "program.py", env=env).out == f"['{name}']\n"
    assert life.warm("magic", "program.py", env={**env, "MORE": "x" * 100}) == f"['{name}']\n"
    for path in life.directory.glob("*.magic"):
        assert name.encode() not in path.read_bytes()
