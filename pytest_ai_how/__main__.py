"""``pytest-ai-how`` and ``python -m pytest_ai_how``: the developer loop outside pytest."""

import sys

from pytest_ai_how.cli.parser import main

if __name__ == "__main__":
    sys.exit(main())
