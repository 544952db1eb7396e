"""Fuzz the parsers, guided by coverage: `python -m fuzz.run [--seconds 600] [target ...]`, from the project's root.

Needs atheris (`pip install atheris`, which Python 3.11 has wheels for). Each target runs for its time in a process of
its own; what breaks one is kept in build/fuzz/<target>, and so is the corpus, for the next run. Exit status 1 if
anything was found.
"""

import argparse
import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / "build" / "fuzz"
PACKAGES = [
    *("softlan.proto", "softlan.ctrl", "softlan.policy", "softlan.net.address", "softlan.client.invitation"),
    *("softlan.relay.admission", "softlan.relay.settings", "softlan.cli.config_file"),
]
# Longer frames than a relay takes teach nothing new; messages may need some room.
MAX_LENGTH = 2048
# Under instrumentation, seconds that one input may take.
TIMEOUT = 20


def main() -> int:
    """Run the targets one after the other."""
    parser = argparse.ArgumentParser(prog="python -m fuzz.run", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=600, help="for each target (default 600)")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("targets", nargs="*", metavar="target", help="by default all; a wrong one lists them")
    options, rest = parser.parse_known_args()
    if options.child:
        return fuzz(options.targets[0], rest)
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: atheris is not installed; run: pip install atheris", file=sys.stderr)
        return 2

    from fuzz.targets import TARGETS

    unknown = [name for name in options.targets if name not in TARGETS]
    if unknown:
        parser.error(f"there is no target {unknown[0]}; the targets are {', '.join(TARGETS)}")
    broken = [name for name in options.targets or TARGETS if not survives(name, options.seconds)]
    if broken:
        print(f"fuzz: found something in {', '.join(broken)}; see build/fuzz", file=sys.stderr)
    return 1 if broken else 0


def survives(name: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; whether nothing was found."""
    from fuzz.targets import seeds

    corpus = WORK / name / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for seed in seeds(name):
        (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    print(f"fuzz: {name} for {seconds} s", file=sys.stderr, flush=True)
    command = [
        *(sys.executable, "-m", "fuzz.run", "--child", name),
        *(f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-timeout={TIMEOUT}"),
        *(f"-artifact_prefix={WORK / name}/", "-print_final_stats=1", "-verbosity=1", str(corpus)),
    ]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def fuzz(name: str, arguments: list[str]) -> int:
    """In the child: instrument the package, hand over to libFuzzer, which ends the process."""
    import atheris

    with atheris.instrument_imports(include=PACKAGES):
        from fuzz.targets import TARGETS

    atheris.Setup([sys.argv[0], *arguments], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
