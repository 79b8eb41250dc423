"""Ask a real language model one question twice: cold, which loads and commits, then warm, from the snapshot.

    python examples/demo.py MODEL.gguf [PROMPT]

It runs the command magic-llama, as a shell script would; each time is that of the whole process.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

SNAPSHOT = Path("build/demo/magic.dat")
PROMPT = "Name the capital of France and one thing to see there."


def ask(model: str, prompt: str) -> tuple[str, float]:
    """Run magic-llama once; return its answer and the seconds the process took. Its progress bars pass through."""
    command = [str(Path(sys.executable).with_name("magic-llama")), "-m", model, "-p", prompt, "-n", "48", "--temp", "0"]
    start = time.perf_counter()
    done = subprocess.run([*command, "--snapshot", str(SNAPSHOT)], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout.strip(), time.perf_counter() - start


def first_token(model: str) -> float:
    """Return the seconds of the quickest of three warm processes that stop at their first token."""
    command = [
        str(Path(sys.executable).with_name("magic-llama")),
        "-m",
        model,
        "-p",
        "Hi",
        "-n",
        "1",
        "--snapshot",
        str(SNAPSHOT),
    ]
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - start)
    return min(times)


def main(model: str, prompt: str = PROMPT) -> None:
    SNAPSHOT.parent.mkdir(parents=True, exist_ok=True)
    for each in SNAPSHOT.parent.glob(f"{SNAPSHOT.name}*"):  # its variants, too
        each.unlink()
    print(f"\n  {prompt}\n", flush=True)
    answer, cold_s = ask(model, prompt)
    if not SNAPSHOT.exists():
        sys.exit("The cold run did not commit; `magicheap doctor` says whether this machine can.")
    again, warm_s = ask(model, prompt)
    print(f"  {answer}\n")
    size = os.stat(SNAPSHOT).st_blocks * 512
    print(f"cold   {cold_s:6.2f} s   loads the model, commits magic.dat, answers")
    print(f"warm   {warm_s:6.2f} s   maps magic.dat, answers {'the same' if again == answer else 'DIFFERENTLY'}")
    print(f"warm   {first_token(model):6.2f} s   to the first token")
    print(f"magic.dat is {size / 1e6:.0f} MB")
    if again != answer:
        sys.exit("The warm answer differs from the cold one: please report this.")


if __name__ == "__main__":
    main(*sys.argv[1:])
