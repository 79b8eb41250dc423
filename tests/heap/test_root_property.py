"""Random graphs go through a real commit and come back in another process as they were, and a second time after that
process wrote to them."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

ROUND_TRIP = f"""
    import json, sys
    sys.path.insert(0, {str(Path(__file__).parent)!r})
    import numpy
    from root_recipes import build, differs, plain_arrays
    from magicheap import magic_transaction

    recipes = json.load(open("recipes.json"))
    outside = [build(recipe) for recipe in recipes]

    def load():
        with magic_transaction("x.magic", process=False) as magic:
            if not magic.was_committed:
                magic.root = [outside, [build(recipe) for recipe in recipes]]
        return magic

    magic = load()
    for _ in range(2 * magic.was_committed):
        for where, graphs in zip(("before", "inside"), magic.root):
            for recipe, got in zip(recipes, graphs):
                wrong = differs(got, recipe)
                if wrong:
                    print(json.dumps([where, wrong, recipe]))
        for graph in magic.root[0] + magic.root[1]:
            for array in plain_arrays(graph):
                if array.flags.writeable:
                    array[...] = numpy.zeros((), array.dtype)
        magic = load()
    print(magic.was_committed, magic.reason)
"""

steps = st.tuples(st.integers(0, 13), st.lists(st.integers(0, 60), min_size=6, max_size=6))
recipes = st.lists(st.lists(steps, min_size=1, max_size=12), min_size=25, max_size=40)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("graphs")


# Without shrinking, which would take two processes for each of thousands of attempts: what failed prints its own
# recipe.
@settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
@given(recipes=recipes)
def test_random_graphs_come_back_in_another_process(scratch, recipes):
    from conftest import Program

    (scratch / "x.magic").unlink(missing_ok=True)
    (scratch / "recipes.json").write_text(json.dumps(recipes))
    round_trip = Program(scratch / "program.py", ROUND_TRIP)
    out, err = round_trip.run()
    assert out.startswith("False there is no snapshot") and err == ""
    out, err = round_trip.run()
    assert (out, err) == ("True \n", ""), out
