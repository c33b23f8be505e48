"""``python3 -m saman.launcher.setup`` from a source tree: finds a recent Python and sets up with it.

An old Python, even Python 2, can read this file and report the problem.
"""

import os
import subprocess
import sys

NEWEST_MINOR = 13
OLDEST_MINOR = 10


def main():
    # type: () -> None
    """Continue under Python 3.10 or newer; exit with 3 and the remedy if there is none."""
    if sys.version_info < (3, OLDEST_MINOR):
        for minor in range(NEWEST_MINOR, OLDEST_MINOR - 1, -1):
            other = "python3." + str(minor)
            if starts(other):
                os.execvp(other, [other, "-m", "saman.launcher.setup"] + sys.argv[1:])
        found = ".".join(str(part) for part in sys.version_info[:3])
        sys.stderr.write(
            "error: Python " + found + " is too old, and no newer Python is on PATH "
            "(install Python 3.10 to 3.13, then: make PYTHON=/path/to/python3)\n"
        )
        sys.exit(3)
    from saman.launcher.setup.command import command

    command(sys.argv[1:])


def starts(python):
    # type: (str) -> bool
    """Whether the command starts a Python; pyenv puts names on PATH that only print an error."""
    try:
        process = subprocess.Popen([python, "-c", ""], stderr=subprocess.PIPE)
        process.communicate()
        return process.returncode == 0
    except OSError:
        return False


if __name__ == "__main__":
    main()
