"""``python3 -m saman.launcher.setup`` from a source tree: finds a Python that is new enough and sets up with it.

Written so that an old Python 3 can still read this file and say what is wrong.
"""

import os
import shutil
import subprocess
import sys

NEWEST_MINOR = 13
OLDEST_MINOR = 10


def main() -> None:
    """Go on under Python 3.10 or newer; exit 3 with the remedy where there is none."""
    if sys.version_info < (3, OLDEST_MINOR):
        for minor in range(NEWEST_MINOR, OLDEST_MINOR - 1, -1):
            other = shutil.which("python3." + str(minor))
            # pyenv and the like put names on PATH that only complain when started
            if other and subprocess.call([other, "-c", ""], stderr=subprocess.DEVNULL) == 0:
                os.execv(other, [other, "-m", "saman.launcher.setup"] + sys.argv[1:])
        found = ".".join(str(part) for part in sys.version_info[:3])
        sys.stderr.write(
            "error: Python " + found + " is too old and no newer one is on PATH "
            "(install Python 3.10 to 3.13, then: make PYTHON=/path/to/python3)\n"
        )
        sys.exit(3)
    from saman.launcher.setup.command import command

    command(sys.argv[1:])


if __name__ == "__main__":
    main()
